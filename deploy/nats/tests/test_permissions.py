"""Nobody can publish or read what is not its own: found out by trying."""

import json
from typing import Final

import nats.errors
import pytest
from nats.aio.client import Client

from contracts.subjects import (
    COMPLETE,
    SUBMIT,
    TENANTS,
    USAGE,
    WORK_VERBS,
    Service,
    Track,
    Verb,
    missing,
    task_changed,
    work_stream,
)
from nats_bootstrap.topology import ASKERS, SENDERS
from testkit.secured_nats import Secured

REFUSED: Final = "permissions violation"
SERVICES = tuple(Service)


async def is_refused(secured: Secured, user: str, client: Client) -> bool:
    """Return whether the server has refused something since the last look."""
    # nats-py's first PING overtakes what was just published.
    await client.flush()
    await client.flush()
    found = secured.errors[user]
    refused = any(REFUSED in text.lower() for text in found)
    found.clear()
    return refused


async def may_publish(secured: Secured, user: str, client: Client, to: str) -> bool:
    """Try to publish."""
    await client.publish(to, b"{}")
    return not await is_refused(secured, user, client)


async def may_subscribe(secured: Secured, user: str, client: Client, to: str) -> bool:
    """Try to subscribe."""
    subscription = await client.subscribe(to)  # pyright: ignore[reportUnknownMemberType]
    allowed = not await is_refused(secured, user, client)
    await subscription.unsubscribe()
    return allowed


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_sends_only_what_the_tables_let_it(
    secured: Secured, service: Service
) -> None:
    """Every work and request subject is tried; exactly the tables' pass."""
    client = await secured.connect(str(service))
    for verb, allowed in _verbs().items():
        subject = verb.to("acme").on(Track.STABLE)
        assert await may_publish(secured, service, client, subject) == (
            service in allowed
        ), subject


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_reads_only_its_own(secured: Secured, service: Service) -> None:
    """Other services' requests, inboxes, work and events cannot be subscribed."""
    client = await secured.connect(str(service))
    for other in SERVICES:
        own = other is service
        for subject in (f"svc.{other}.>", f"_INBOX.{other}.>"):
            assert await may_subscribe(secured, service, client, subject) == own
    for subject in (">", "work.>", "svc.>", "events.>", "evt.>", "$JS.>", "_INBOX.>"):
        assert not await may_subscribe(secured, service, client, subject), subject
    assert not await may_subscribe(secured, service, client, "events.acme.>")


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
        assert await may_publish(reconciled, service, client, next_of) == expected
        for forbidden in (
            f"$JS.API.STREAM.PURGE.{stream}",
            f"$JS.API.STREAM.DELETE.{stream}",
            f"$JS.API.STREAM.MSG.GET.{stream}",
            f"$JS.API.STREAM.MSG.DELETE.{stream}",
            f"$JS.API.CONSUMER.DELETE.{stream}.{verb.name}-stable",
            f"$JS.API.DIRECT.GET.{stream}",
        ):
            assert not await may_publish(reconciled, service, client, forbidden)
    creates = "$JS.API.STREAM.CREATE.MINE"
    is_owner = service is Service.BOOTSTRAP
    assert await may_publish(reconciled, service, client, creates) == is_owner


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_answers_only_whoever_may_ask_it(
    secured: Secured, service: Service
) -> None:
    """Nobody writes into the inbox of one that has nothing to ask it."""
    client = await secured.connect(str(service))
    for other in SERVICES:
        allowed = other in _askers_of(service)
        inbox = f"_INBOX.{other}.some-token"
        assert await may_publish(secured, service, client, inbox) == allowed, other
    for inbox in ("_INBOX.tenant-acme.x", "_INBOX.sys.x"):
        assert not await may_publish(secured, service, client, inbox)


async def test_a_tenant_publishes_its_events_and_gets_its_pub_ack(
    reconciled: Secured,
) -> None:
    """Its own stream takes the event; the PubAck comes to its own inbox."""
    client = await reconciled.connect("tenant-acme")
    ack = await client.request("events.acme.invoice.received", b"{}", timeout=5)
    assert json.loads(ack.data)["stream"] == "EVENTS_acme"


async def test_a_tenant_may_do_nothing_else(reconciled: Secured) -> None:
    """No other tenant, no service, no JetStream API, nobody's inbox."""
    user = "tenant-acme"
    client = await reconciled.connect(user)
    for subject in (
        "events.globex.invoice",
        task_changed("acme", "task_1"),
        "evt.gateway.tenant.acme",
        SUBMIT.to("acme").on(Track.STABLE),
        missing(Service.ORCHESTRATOR).to(None).on(Track.STABLE),
        TENANTS.to(None).on(Track.STABLE),
        "live.acme.task_1",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.EVENTS_acme",
        "$JS.API.STREAM.MSG.GET.EVENTS_acme",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS_acme.orchestrator",
        "$JS.ACK.EVENTS_acme.orchestrator.1.1.1.1.1",
        "$KV.ROUTES.orchestrator",
        "_INBOX.gateway.x",
        "_INBOX.tenant-globex.x",
        "$SYS.REQ.SERVER.PING",
    ):
        assert not await may_publish(reconciled, user, client, subject), subject
    for subject in (
        ">",
        "events.acme.>",
        "events.>",
        "evt.orchestrator.task.*.>",
        "evt.orchestrator.task.globex.>",
        "live.acme.>",
        "_INBOX.>",
        "_INBOX.tenant-globex.>",
        "$KV.>",
    ):
        assert not await may_subscribe(reconciled, user, client, subject), subject


async def test_a_tenant_reads_its_own_tasks_only(reconciled: Secured) -> None:
    """It hears its own tasks' facts, and none of another tenant's."""
    acme = await reconciled.connect("tenant-acme")
    orchestrator = await reconciled.connect(str(Service.ORCHESTRATOR))
    heard = await acme.subscribe("evt.orchestrator.task.acme.>")  # pyright: ignore[reportUnknownMemberType]
    await acme.flush()
    await orchestrator.publish(task_changed("globex", "task_1"), b"theirs")
    await orchestrator.publish(task_changed("acme", "task_2"), b"ours")
    assert (await heard.next_msg(timeout=5)).data == b"ours"
    assert heard.pending_msgs == 0


async def test_equal_message_ids_of_two_tenants_do_not_meet(
    reconciled: Secured,
) -> None:
    """One tenant's ``Nats-Msg-Id`` cannot drop another tenant's event."""
    for tenant in ("acme", "globex"):
        client = await reconciled.connect(f"tenant-{tenant}")
        ack = await client.request(
            f"events.{tenant}.x", b"{}", timeout=5, headers={"Nats-Msg-Id": "same"}
        )
        assert "duplicate" not in json.loads(ack.data)


@pytest.mark.parametrize(
    "header",
    [
        {"Nats-Rollup": "all"},
        {"Nats-TTL": "1s"},
        {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "events.acme.y"},
    ],
)
async def test_events_cannot_erase_expire_or_repeat(
    reconciled: Secured, header: dict[str, str]
) -> None:
    """Roll-up, TTL and schedules are off on an events stream."""
    client = await reconciled.connect("tenant-acme")
    ack = await client.request("events.acme.x", b"{}", timeout=5, headers=header)
    assert "error" in json.loads(ack.data)


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


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.API.STREAM.PURGE.EVENTS_globex",
        "$JS.API.STREAM.DELETE.EVENTS_globex",
        "$JS.API.CONSUMER.DELETE.EVENTS_globex.orchestrator",
        "$JS.ACK.EVENTS_globex.orchestrator.1.1.1.1.1",
        "$SYS.REQ.SERVER.PING",
    ],
)
async def test_a_pub_ack_sent_elsewhere_harms_nobody(
    reconciled: Secured, reply: str
) -> None:
    """
    JetStream answers a publish wherever its publisher says.

    A tenant can make the server say a PubAck on a subject that is not its own, but
    no PubAck is a valid command there; ``$JS.ACK`` is refused by the server itself.
    """
    globex = await reconciled.connect("tenant-globex")
    first = await globex.request("events.globex.x", b"{}", timeout=5)
    acme = await reconciled.connect("tenant-acme")
    await acme.publish("events.acme.x", b"{}", reply=reply)
    await is_refused(reconciled, "tenant-acme", acme)  # waits until it has arrived
    second = await globex.request("events.globex.x", b"{}", timeout=5)
    found = [json.loads(ack.data)["seq"] for ack in (first, second)]
    assert found == [1, 2]
    bootstrap = await reconciled.connect(str(Service.BOOTSTRAP))
    info = await bootstrap.request("$JS.API.STREAM.INFO.EVENTS_globex", timeout=5)
    state = json.loads(info.data)["state"]
    assert (state["messages"], state["consumer_count"]) == (2, 1)
