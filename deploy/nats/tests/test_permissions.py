"""Nobody can publish or read what is not its own: found out by trying."""

import nats.errors
import pytest

from contracts.subjects import (
    COMPLETE,
    USAGE,
    WORK_VERBS,
    Service,
    Track,
    Verb,
    work_stream,
)
from nats_bootstrap.topology import ASKERS, SENDERS
from testkit.secured_nats import Secured

SERVICES = tuple(Service)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_sends_only_what_the_tables_let_it(
    secured: Secured, service: Service
) -> None:
    """Every work and request subject is tried; exactly the tables' pass."""
    client = await secured.connect(str(service))
    for verb, allowed in _verbs().items():
        subject = verb.to("acme").on(Track.STABLE)
        assert await secured.may_publish(service, client, subject) == (
            service in allowed
        ), subject


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_reads_only_its_own(secured: Secured, service: Service) -> None:
    """Other services' requests, inboxes, work and events cannot be subscribed."""
    client = await secured.connect(str(service))
    for other in SERVICES:
        own = other is service
        for subject in (f"svc.{other}.>", f"_INBOX.{other}.>"):
            assert await secured.may_subscribe(service, client, subject) == own
    for subject in (">", "work.>", "svc.>", "events.>", "evt.>", "$JS.>", "_INBOX.>"):
        assert not await secured.may_subscribe(service, client, subject), subject
    assert not await secured.may_subscribe(service, client, "events.acme.>")


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_touches_no_other_stream(
    reconciled: Secured, service: Service
) -> None:
    """It can neither pull, read, purge nor delete what is not its own."""
    client = await reconciled.connect(str(service))
    for verb in WORK_VERBS:
        stream = work_stream(verb.service)
        next_of = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{verb.name}-stable"
        expected = service is verb.service
        assert await reconciled.may_publish(service, client, next_of) == expected
        for forbidden in (
            f"$JS.API.STREAM.PURGE.{stream}",
            f"$JS.API.STREAM.DELETE.{stream}",
            f"$JS.API.STREAM.MSG.GET.{stream}",
            f"$JS.API.STREAM.MSG.DELETE.{stream}",
            f"$JS.API.CONSUMER.DELETE.{stream}.{verb.name}-stable",
            f"$JS.API.DIRECT.GET.{stream}",
        ):
            assert not await reconciled.may_publish(service, client, forbidden)
    creates = "$JS.API.STREAM.CREATE.MINE"
    is_owner = service is Service.BOOTSTRAP
    assert await reconciled.may_publish(service, client, creates) == is_owner


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_answers_only_whoever_may_ask_it(
    secured: Secured, service: Service
) -> None:
    """Nobody writes into the inbox of one that has nothing to ask it."""
    client = await secured.connect(str(service))
    for other in SERVICES:
        allowed = other in _askers_of(service)
        inbox = f"_INBOX.{other}.some-token"
        assert await secured.may_publish(service, client, inbox) == allowed, other
    for inbox in ("_INBOX.tenant-acme.x", "_INBOX.sys.x"):
        assert not await secured.may_publish(service, client, inbox)


async def test_nobody_connects_without_a_password(secured: Secured) -> None:
    """There is no anonymous user, and a wrong password is refused."""
    for user, password in (("gateway", "wrong"), ("tenant-acme", "wrong")):
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await secured.connect(user, password)


def _verbs() -> dict[Verb, tuple[Service, ...]]:
    found = {**SENDERS, **ASKERS}
    assert {COMPLETE, USAGE} <= set(found)
    return found


def _askers_of(service: Service) -> set[Service]:
    asking = {who for verb, who in _verbs().items() if verb.service is service}
    return {asker for who in asking for asker in who} | {Service.GATEWAY}
