"""A process's life, run for real: ready, draining, and its exit code."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from contracts.delivery import Missing, MissingReply
from contracts.subjects import Service, missing
from faults import TransientFault
from messaging.burial import NoSink
from messaging.bus import Delivery
from messaging.nats_bus import NatsBus
from messaging.runner import serve
from messaging.settings import ServiceSettings
from messaging.subscriptions import Answer, Runnable
from testkit.bus_world import RECEIVER, ask_missing, until
from testkit.nats_server import NatsServer
from testkit.nats_world import NatsWorld, make_streams

SETTINGS = ServiceSettings(database_url="", http_port=0)
Loop = Callable[[], Awaitable[None]]


@dataclass
class Process:
    """A served service, and how to look at it."""

    bus: NatsBus
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    code: int | None = None

    async def ready(self) -> int:
        """Return the status of ``/ready``."""
        async with httpx.AsyncClient() as client:
            reply = await client.get(f"http://127.0.0.1:{self.port}/ready")
        return reply.status_code


@asynccontextmanager
async def serving(
    world: NatsWorld, *loops: Loop, checks: dict[str, Loop] | None = None
) -> AsyncGenerator[tuple[Process, asyncio.Task[None]]]:
    """Serve a small service until the block ends."""

    async def answer(_: Missing, __: Delivery) -> MissingReply:
        await world.clock.sleep(0.3)
        return MissingReply(missing=())

    listens = (Answer(missing(RECEIVER), Missing, answer),)
    runnable = Runnable(RECEIVER, listens, loops, sink=NoSink())
    process = Process(world.build(RECEIVER))

    def listening(port: int) -> None:
        process.port = port

    async def run() -> None:
        process.code = 0
        try:
            await serve(
                runnable,
                bus=process.bus,
                checks=checks or {},
                settings=SETTINGS,
                on_listening=listening,
                stop=process.stop,
            )
        except SystemExit as ending:  # would end the test's loop as well
            process.code = ending.code if isinstance(ending.code, int) else None

    task = asyncio.create_task(run())
    await until(world.clock, lambda: process.port != 0)
    try:
        yield process, task
    finally:
        process.stop.set()
        await asyncio.wait({task}, timeout=15)


async def becomes(process: Process, status: int) -> None:
    """Wait for ``/ready`` to answer with a status."""
    async with asyncio.timeout(15):
        while await process.ready() != status:
            await process.bus.clock.sleep(0.05)


async def test_ready_only_when_subscribed(nats_server: NatsServer) -> None:
    """The face is up without NATS, and says 503 until everything is subscribed."""
    await asyncio.to_thread(nats_server.kill)
    world = NatsWorld(nats_server.url)
    async with serving(world) as (process, _):
        assert await process.ready() == 503
        await asyncio.to_thread(nats_server.start)
        await make_streams(nats_server.url)
        await becomes(process, 200)
        asker = await world.bus(Service.ORCHESTRATOR)
        assert (await ask_missing(asker)).missing == ()
    await world.close()


async def test_a_failing_check_is_not_ready(world: NatsWorld) -> None:
    """The service's own checks count beside NATS."""

    async def check() -> None:
        raise TransientFault("the store is away")

    async with serving(world, checks={"store": check}) as (process, _):
        await world.clock.sleep(0.3)
        assert await process.ready() == 503


async def test_stopping_answers_what_is_under_way_and_ends_well(
    world: NatsWorld,
) -> None:
    """Requests that came before the signal are answered; the code is 0."""
    async with serving(world) as (process, task):
        await becomes(process, 200)
        asker = await world.bus(Service.ORCHESTRATOR)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask_missing(asker)) for _ in range(20)]
            await world.clock.sleep(0.1)
            process.stop.set()
        assert all(each.result().missing == () for each in asked)
        await asyncio.wait_for(task, 15)
        assert process.code == 0
        with pytest.raises(TransientFault):
            await ask_missing(asker)


async def test_loops_are_stopped_after_draining(world: NatsWorld) -> None:
    """A loop is cancelled once, and only when nothing is answered any more."""
    ended: list[bool] = []

    async def loop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with serving(world, loop) as (process, task):
        await becomes(process, 200)
        process.stop.set()
        await asyncio.wait_for(task, 15)
    assert ended == [True]


async def test_a_dead_loop_ends_the_process_with_one(world: NatsWorld) -> None:
    """Half a service must not go on looking alive."""

    async def loop() -> None:
        raise ZeroDivisionError

    async with serving(world, loop) as (process, task):
        await asyncio.wait_for(task, 15)
    assert process.code == 1


async def test_a_connection_lost_for_good_ends_the_process_with_one(
    world: NatsWorld,
) -> None:
    """nats-py would leave it alive and deaf for ever."""
    async with serving(world) as (process, task):
        await becomes(process, 200)
        client = process.bus.connection.client
        body = b"x" * (client.max_payload - 1)
        await client.publish("live.acme.x", body, headers={"A": "b" * 100})
        await asyncio.wait_for(task, 15)
    assert process.code == 1
