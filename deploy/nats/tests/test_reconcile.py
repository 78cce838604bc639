"""What is missing on NATS is made again, and tenants come and stay live."""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from contracts.delivery import Nothing
from contracts.subjects import (
    RECONCILE,
    TASK_GET,
    TENANTS,
    WORK_VERBS,
    Service,
    Track,
    durable,
    task_changed,
    tenant_changed,
    work_stream,
)
from contracts.tenants import ReconcileReport, Tenant, Tenants
from determinism import SystemClock
from faults import PermanentFault
from messaging.bus import Delivery
from messaging.nats_bus import NatsBus
from messaging.subscriptions import Answer
from nats_bootstrap.users import System, UsersFile
from testkit.secured_nats import TENANT_HASHES, Secured, hash_of

PATIENCE_S = 15.0
CLOCK = SystemClock()


@asynccontextmanager
async def bootstrapping(secured: Secured) -> AsyncGenerator[NatsBus]:
    """Run the bootstrap as its process does, without the face."""
    bus = secured.bus(Service.BOOTSTRAP)
    reconciler, system = secured.reconciler(bus)
    await bus.connect()
    await bus.subscribe(*reconciler.runnable().subscriptions)
    running = asyncio.create_task(reconciler.run())
    try:
        yield bus
    finally:
        await ended(running)
        await bus.close()
        await system.close()


async def ended(running: asyncio.Task[None]) -> None:
    """Cancel a task until it is done."""
    # A reply that arrives with the cancellation swallows it (wait_for, 3.11).
    while not running.done():
        running.cancel()
        await asyncio.wait({running}, timeout=1)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition; fail when it does not come."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await CLOCK.sleep(0.05)


async def stream_exists(client: Client, name: str) -> bool:
    """Ask JetStream for a stream."""
    try:
        reply = await client.request(f"$JS.API.STREAM.INFO.{name}", b"", timeout=2)
    except nats.errors.Error:
        return False
    return "error" not in json.loads(reply.data)


async def test_everything_of_the_topology_is_made(reconciled: Secured) -> None:
    """Streams, durables of both tracks, the bucket, and tenants' streams."""
    client = await reconciled.connect(str(Service.BOOTSTRAP))
    for name in ("EVT", "KV_ROUTES", "EVENTS_acme", "EVENTS_globex"):
        assert await stream_exists(client, name), name
    for verb in WORK_VERBS:
        for track in Track:
            name = f"{work_stream(verb.service)}.{durable(verb, track)}"
            reply = await client.request(f"$JS.API.CONSUMER.INFO.{name}", timeout=5)
            found = json.loads(reply.data)["config"]
            assert found["filter_subject"] == verb.pattern(track)
            assert found["ack_policy"] == "explicit"
            assert found["max_deliver"] == -1


async def test_a_second_pass_changes_nothing(reconciled: Secured) -> None:
    """Reconciling is idempotent: streams are not updated as a routine."""
    bus = reconciled.bus(Service.BOOTSTRAP)
    await bus.connect()
    reconciler, system = reconciled.reconciler(bus)
    assert await reconciler.reconcile() == ()
    await system.close()
    await bus.close()


async def test_a_wiped_server_is_made_whole_again(secured: Secured) -> None:
    """Killed, its store deleted, restarted: all streams are back within seconds."""
    async with bootstrapping(secured) as bus:
        await until(lambda: stream_of(bus, "EVENTS_acme"))
        secured.server.restart(wipe=True)
        await until(lambda: stream_of(bus, "EVENTS_acme"))
        await until(lambda: stream_of(bus, "WORK_ORCHESTRATOR"))
        assert bus.counters.reconnects == 1


async def test_a_deleted_stream_is_made_again_by_the_timer(secured: Secured) -> None:
    """No reconnect and no bell are needed."""
    async with bootstrapping(secured) as bus:
        await until(lambda: stream_of(bus, "EVENTS_acme"))
        # Not even the bootstrap may delete: the file is changed under the server.
        await asyncio.to_thread(secured.server.kill)
        for folder in secured.server.store.rglob("EVENTS_acme"):
            await asyncio.to_thread(_remove, str(folder))
        await asyncio.to_thread(secured.server.start)
        # A server that has just started may answer the first question late.
        await until(lambda: stream_of(bus, "EVENTS_globex"))
        await until(lambda: stream_of(bus, "EVENTS_acme"))
        assert await stream_of(bus, "EVENTS_acme")


async def test_a_new_tenant_connects_without_disconnecting_others(
    secured: Secured,
) -> None:
    """The gateway names a tenant and rings; its user works, nobody reconnects."""
    known = list(TENANT_HASHES)

    async def answer(_: Nothing, __: Delivery) -> Tenants:
        return tenants_of(known)

    gateway = secured.bus(Service.GATEWAY)
    await gateway.connect()
    await gateway.subscribe(Answer(TENANTS, Nothing, answer))
    acme = await secured.connect("tenant-acme")
    async with bootstrapping(secured) as bus:
        await until(lambda: stream_of(bus, "EVENTS_acme"))
        with pytest.raises(nats.errors.Error):
            await secured.connect("tenant-initech")
        known.append(("initech", hash_of("password-of-initech")))
        await gateway.announce(tenant_changed("initech"), Nothing())
        await until(lambda: stream_of(bus, "EVENTS_initech"))
        initech = await secured.connect("tenant-initech")
        ack = await initech.request("events.initech.x", b"{}", timeout=5)
        assert json.loads(ack.data)["stream"] == "EVENTS_initech"
        assert acme.is_connected
        assert acme.stats["reconnects"] == 0
        assert (bus.counters.disconnects, gateway.counters.disconnects) == (0, 0)
    await gateway.close()


async def test_a_reload_loses_no_answer_under_way(reconciled: Secured) -> None:
    """A request that is being answered while users change gets its answer."""
    asked, reloaded = asyncio.Event(), asyncio.Event()

    async def answer(_: Nothing, __: Delivery) -> Nothing:
        asked.set()
        await reloaded.wait()
        return Nothing()

    orchestrator = reconciled.bus(Service.ORCHESTRATOR)
    gateway = reconciled.bus(Service.GATEWAY)
    for bus in (orchestrator, gateway):
        await bus.connect()
    await orchestrator.subscribe(Answer(TASK_GET, Nothing, answer))
    request = gateway.request(TASK_GET.to("acme"), Nothing(), Nothing, timeout_s=5)
    async with asyncio.TaskGroup() as group:
        reply = group.create_task(request)
        await asked.wait()
        UsersFile(reconciled.users_path).replace(TENANT_HASHES[:1])
        system = System(reconciled.server.url, "password-of-sys")
        await system.reload()
        await system.close()
        reloaded.set()
    assert reply.result() == Nothing()
    for bus in (orchestrator, gateway):
        await bus.close()


async def test_others_lose_nothing_while_tenants_come(secured: Secured) -> None:
    """
    Events and facts flow through reloads, and each new tenant works at once.

    While the server exchanges an account's imports, for microseconds, a publish can
    find nobody: its publisher is told so and repeats it.
    """
    known = list(TENANT_HASHES)

    async def answer(_: Nothing, __: Delivery) -> Tenants:
        return tenants_of(known)

    gateway = secured.bus(Service.GATEWAY)
    await gateway.connect()
    await gateway.subscribe(Answer(TENANTS, Nothing, answer))
    async with bootstrapping(secured) as bus:
        await until(lambda: stream_of(bus, "EVENTS_acme"))
        flow = await Flow.begin(secured)
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(each()) for each in (flow.publish, flow.tell)]
            try:
                for name in ("initech", "umbrella", "hooli"):
                    known.append((name, hash_of(f"password-of-{name}")))
                    await gateway.request(
                        RECONCILE.to(None), Nothing(), ReconcileReport, timeout_s=20
                    )
                    client = await secured.connect(f"tenant-{name}")
                    ack = await client.request(f"events.{name}.x", b"{}", timeout=5)
                    assert json.loads(ack.data)["stream"] == f"EVENTS_{name}"
            finally:
                # A busy request can swallow the group's cancellation.
                flow.stopping.set()
            await asyncio.wait(running)
        await until(flow.is_all_heard)
        info = await bus.connection.client.request(
            "$JS.API.STREAM.INFO.EVENTS_acme", timeout=10
        )
        assert json.loads(info.data)["state"]["messages"] == flow.events > 0
        assert (bus.counters.disconnects, gateway.counters.disconnects) == (0, 0)
    assert flow.acme.is_connected
    assert flow.orchestrator.is_connected
    await gateway.close()


@dataclass
class Flow:
    """A tenant's events and facts, as they go on."""

    acme: Client
    orchestrator: Client
    heard: Subscription
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    events: int = 0
    facts: int = 0

    @classmethod
    async def begin(cls, secured: Secured) -> Self:
        """Connect both sides, and listen."""
        acme = await secured.connect("tenant-acme")
        orchestrator = await secured.connect(str(Service.ORCHESTRATOR))
        heard = await acme.subscribe("evt.orchestrator.task.acme.>")  # pyright: ignore[reportUnknownMemberType]
        await acme.flush()
        return cls(acme, orchestrator, heard)

    async def publish(self) -> None:
        """Publish events, each until it is acknowledged."""
        while not self.stopping.is_set():
            with suppress(nats.errors.NoRespondersError):
                await self.acme.request("events.acme.x", b"{}", timeout=5)
                self.events += 1
            await CLOCK.sleep(0.001)

    async def tell(self) -> None:
        """Announce changes of a task."""
        while not self.stopping.is_set():
            await self.orchestrator.publish(task_changed("acme", "task_1"), b"{}")
            self.facts += 1
            await CLOCK.sleep(0.002)

    async def is_all_heard(self) -> bool:
        """Return whether the tenant has got every fact."""
        return self.heard.pending_msgs == self.facts > 0


async def test_no_server_yet_is_no_failure(secured: Secured) -> None:
    """Until there is a server the bootstrap waits; then it makes everything."""
    await asyncio.to_thread(secured.server.kill)
    bus = secured.bus(Service.BOOTSTRAP)
    reconciler, system = secured.reconciler(bus)
    running = asyncio.create_task(reconciler.run())
    connecting = asyncio.create_task(bus.connect())
    _, waiting = await asyncio.wait({running, connecting}, timeout=0.5)
    assert waiting == {running, connecting}
    await asyncio.to_thread(secured.server.start)
    await connecting
    await until(lambda: stream_of(bus, "EVENTS_acme"))
    assert not running.done()
    await ended(running)
    await bus.close()
    await system.close()


async def test_a_removed_tenant_is_locked_out(secured: Secured) -> None:
    """Its user is gone with the next pass."""

    async def answer(_: Nothing, __: Delivery) -> Tenants:
        return tenants_of([TENANT_HASHES[0]])

    gateway = secured.bus(Service.GATEWAY)
    await gateway.connect()
    await gateway.subscribe(Answer(TENANTS, Nothing, answer))
    globex = await secured.connect("tenant-globex")

    async def is_out() -> bool:
        return globex.is_closed

    async with bootstrapping(secured):
        await until(is_out)
    assert globex.is_closed
    await gateway.close()


async def test_tenants_stay_while_the_gateway_is_down(reconciled: Secured) -> None:
    """An unanswered question removes nobody."""
    assert UsersFile(reconciled.users_path).tenants() == TENANT_HASHES
    client = await reconciled.connect("tenant-globex")
    assert client.is_connected


async def test_the_gateway_can_ask_for_a_pass(secured: Secured) -> None:
    """The report says in words what was made."""
    gateway = secured.bus(Service.GATEWAY)
    await gateway.connect()
    bus = secured.bus(Service.BOOTSTRAP)
    reconciler, system = secured.reconciler(bus)
    await bus.connect()
    await bus.subscribe(*reconciler.runnable().subscriptions)
    report = await gateway.request(
        RECONCILE.to(None), Nothing(), ReconcileReport, timeout_s=20
    )
    assert "made stream EVT" in report.changed
    for each in (gateway, bus, system):
        await each.close()


async def test_an_invalid_file_is_refused_and_taken_back(reconciled: Secured) -> None:
    """The server says no, keeps its users, and the reload reports it."""
    path = reconciled.users_path
    before = path.read_text()
    path.write_text(before.replace("exports: [", "exports: [ {", 1))
    system = System(reconciled.server.url, "password-of-sys")
    with pytest.raises(PermanentFault):
        await system.reload()
    path.write_text(before)
    await system.reload()
    await system.close()
    assert (await reconciled.connect("tenant-acme")).is_connected


def stream_of(bus: NatsBus, name: str) -> "asyncio.Future[bool]":
    """Ask through the bootstrap's own connection."""
    return asyncio.ensure_future(stream_exists(bus.connection.client, name))


def tenants_of(known: list[tuple[str, str]]) -> Tenants:
    """Return the gateway's answer."""
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return Tenants(
        tenants=tuple(
            Tenant(tenant=name, nats_password_hash=hashed, created_at=created)
            for name, hashed in known
        )
    )


def _remove(folder: str) -> None:
    shutil.rmtree(folder)
