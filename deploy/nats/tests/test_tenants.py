"""A tenant reaches its own events and facts, and nothing else: found out by trying."""

import json
from typing import Final

import pytest
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts.subjects import (
    SUBMIT,
    TENANTS,
    USAGE,
    Service,
    Track,
    missing,
    task_changed,
)
from testkit.secured_nats import Secured

ACME: Final = "tenant-acme"
STREAMS: Final = ("WORK_ORCHESTRATOR", "WORK_BILLING_METER", "EVT", "EVENTS_globex")
HEARD: Final = {
    "gateway": (
        "live.*.*",
        "evt.orchestrator.task.*.*",
        "evt.platform.deadletter.*",
        "svc.gateway.>",
        "_INBOX.gateway.>",
    ),
    "orchestrator": ("svc.orchestrator.>", "_INBOX.orchestrator.>"),
    "bootstrap": ("svc.bootstrap.>", "evt.gateway.tenant.*"),
    "tenant-globex": ("evt.orchestrator.task.globex.>", "_INBOX.>"),
    "sys": ("_INBOX.sys.>",),
}
"""All that these users may subscribe to."""
FOREIGN: Final = (
    SUBMIT.to("globex").on(Track.STABLE),
    USAGE.to("globex").on(Track.STABLE),
    missing(Service.ORCHESTRATOR).to(None).on(Track.STABLE),
    TENANTS.to(None).on(Track.STABLE),
    task_changed("globex", "task_1"),
    "evt.gateway.tenant.globex",
    "evt.platform.deadletter.orchestrator",
    "live.globex.task_1",
    "events.globex.x",
    "_INBOX.gateway.x",
    "_INBOX.tenant-globex.x",
    "_INBOX.sys.x",
    "_R_.x",
    "$JS.API.STREAM.PURGE.EVENTS_globex",
    "$JS.API.STREAM.DELETE.EVENTS_globex",
    "$JS.API.CONSUMER.DELETE.EVENTS_globex.orchestrator",
    "$JS.ACK.EVENTS_globex.orchestrator.1.1.1.1.1",
    "$KV.ROUTES.orchestrator",
    "$SYS.REQ.SERVER.PING",
)
"""Subjects that mean something to somebody else."""


async def everything_heard(secured: Secured) -> list[Subscription]:
    """Subscribe as everybody to whatever each of them may hear."""
    found: list[Subscription] = []
    for user, subjects in HEARD.items():
        client = await secured.connect(user)
        found += [await client.subscribe(each) for each in subjects]  # pyright: ignore[reportUnknownMemberType]
        assert not await secured.is_refused(user, client)
    return found


async def state_of(secured: Secured, stream: str) -> tuple[int, int, int]:
    """Return a stream's messages, last sequence and consumers."""
    bootstrap = await secured.connect(str(Service.BOOTSTRAP))
    info = await bootstrap.request(f"$JS.API.STREAM.INFO.{stream}", timeout=5)
    state = json.loads(info.data)["state"]
    return state["messages"], state["last_seq"], state["consumer_count"]


async def next_event(secured: Secured) -> Msg:
    """Pull the next event of acme, as the orchestrator does."""
    orchestrator = await secured.connect(str(Service.ORCHESTRATOR))
    subject = "$JS.API.CONSUMER.MSG.NEXT.EVENTS_acme.orchestrator"
    inbox = orchestrator.new_inbox()
    pulled = await orchestrator.subscribe(inbox)  # pyright: ignore[reportUnknownMemberType]
    await orchestrator.publish(subject, b"", reply=inbox)
    return await pulled.next_msg(timeout=5)


@pytest.mark.parametrize("inbox_prefix", ["_INBOX", f"_INBOX.{ACME}"])
async def test_a_tenant_publishes_its_events_and_gets_its_pub_ack(
    reconciled: Secured, inbox_prefix: str
) -> None:
    """Its own stream takes the event; any client's inbox gets the PubAck."""
    client = await reconciled.connect(ACME, inbox_prefix=inbox_prefix)
    jetstream = client.jetstream()  # pyright: ignore[reportUnknownMemberType]
    ack = await jetstream.publish("events.acme.invoice.received", b"{}", timeout=5)
    assert (ack.stream, ack.seq) == ("EVENTS_acme", 1)


async def test_an_event_keeps_its_headers_and_is_taken_once(
    reconciled: Secured,
) -> None:
    """CloudEvents' headers arrive, and so does the id that drops the second."""
    client = await reconciled.connect(ACME)
    headers = {"ce-id": "1", "ce-source": "/scanner", "Nats-Msg-Id": "1"}
    for is_duplicate in (None, True):
        ack = await client.request("events.acme.x", b"{}", timeout=5, headers=headers)
        assert json.loads(ack.data).get("duplicate") is is_duplicate
    assert (await state_of(reconciled, "EVENTS_acme"))[0] == 1
    event = await next_event(reconciled)
    assert (event.subject, event.headers) == ("events.acme.x", headers)


async def test_an_event_without_a_reply_is_taken_too(reconciled: Secured) -> None:
    """A system that cannot wait for a PubAck just publishes."""
    client = await reconciled.connect(ACME)
    await client.publish("events.acme.x", b"{}", headers={"ce-id": "1"})
    await client.flush()
    event = await next_event(reconciled)
    assert (event.data, event.headers) == (b"{}", {"ce-id": "1"})


async def test_a_tenant_may_do_nothing_else(reconciled: Secured) -> None:
    """No other tenant, no service, no JetStream API, nobody's inbox."""
    client = await reconciled.connect(ACME)
    for subject in (
        *FOREIGN,
        task_changed("acme", "task_1"),
        "live.acme.task_1",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.EVENTS_acme",
        "$JS.API.STREAM.MSG.GET.EVENTS_acme",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS_acme.orchestrator",
        "$JS.ACK.EVENTS_acme.orchestrator.1.1.1.1.1",
        "_INBOX.x",
    ):
        assert not await reconciled.may_publish(ACME, client, subject), subject
    for subject in (
        ">",
        "events.acme.>",
        "events.>",
        "evt.orchestrator.task.*.>",
        "evt.orchestrator.task.globex.>",
        "live.acme.>",
        "_R_.>",
        "$KV.>",
        "$JS.>",
        "$SYS.>",
    ):
        assert not await reconciled.may_subscribe(ACME, client, subject), subject


async def test_a_tenants_inboxes_are_its_accounts(reconciled: Secured) -> None:
    """It may name any inbox, and hears what reaches those of its account only."""
    acme = await reconciled.connect(ACME)
    assert await reconciled.may_subscribe(ACME, acme, "_INBOX.gateway.>")
    spying = await acme.subscribe("_INBOX.>")  # pyright: ignore[reportUnknownMemberType]
    assert not await reconciled.is_refused(ACME, acme)
    bootstrap = await reconciled.connect(str(Service.BOOTSTRAP))
    globex = await reconciled.connect("tenant-globex", inbox_prefix="_INBOX")
    await bootstrap.request("$JS.API.STREAM.INFO.EVT", timeout=5)
    await globex.request("events.globex.x", b"{}", timeout=5)
    orchestrator = await reconciled.connect(str(Service.ORCHESTRATOR))
    assert await reconciled.may_publish(
        str(Service.ORCHESTRATOR), orchestrator, "_INBOX.gateway.x"
    )
    await acme.flush()
    assert spying.pending_msgs == 0


async def test_a_tenant_reads_its_own_tasks_only(reconciled: Secured) -> None:
    """It hears its own tasks' facts, and none of another tenant's."""
    acme = await reconciled.connect(ACME)
    orchestrator = await reconciled.connect(str(Service.ORCHESTRATOR))
    heard = await acme.subscribe("evt.orchestrator.task.acme.>")  # pyright: ignore[reportUnknownMemberType]
    await acme.flush()
    await orchestrator.publish(task_changed("globex", "task_1"), b"theirs")
    await orchestrator.publish(
        task_changed("acme", "task_2"), b"ours", headers={"traceparent": "00-1"}
    )
    first = await heard.next_msg(timeout=5)
    assert first.data == b"ours"
    assert first.headers == {"traceparent": "00-1"}
    assert first.subject == task_changed("acme", "task_2")
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
    client = await reconciled.connect(ACME)
    ack = await client.request("events.acme.x", b"{}", timeout=5, headers=header)
    assert "error" in json.loads(ack.data)


async def test_no_reply_of_a_tenants_choosing_reaches_anybody(
    reconciled: Secured,
) -> None:
    """
    JetStream answers a publish where its publisher says, but within its account.

    Nobody hears a PubAck on a subject that means something in the services' account
    or another tenant's, no stream takes one, and a trace of the message goes there
    neither.
    """
    before = [await state_of(reconciled, each) for each in STREAMS]
    heard = await everything_heard(reconciled)
    acme = await reconciled.connect(ACME)
    for subject in FOREIGN:
        await acme.publish("events.acme.x", b"{}", reply=subject)
        await acme.publish("events.acme.x", b"{}", headers={"Nats-Trace-Dest": subject})
    await reconciled.is_refused(ACME, acme)  # Waits until they have arrived.
    # The server answers in order: whatever it says of those, it has said by now.
    await acme.request("events.acme.x", b"{}", timeout=5)
    for each in reconciled.clients:
        await each.flush()
        await each.flush()
    assert [(each.subject, each.pending_msgs) for each in heard] == [
        (each.subject, 0) for each in heard
    ]
    assert [await state_of(reconciled, each) for each in STREAMS] == before
