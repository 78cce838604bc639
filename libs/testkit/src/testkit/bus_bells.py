"""What every bus promises of core subjects: heard by all who listen."""

from contracts.frames import CancelCompletion, TextDelta
from contracts.subjects import Service, cancel_completion, live
from messaging.subscriptions import Hear
from testkit.bus_world import TENANT, BusWorld, until


class BellPromises:
    """Core subjects: heard by all who listen, lost without harm."""

    async def test_an_announcement_is_heard_by_every_replica(
        self, world: BusWorld
    ) -> None:
        """Each process that hears a subject hears the message."""
        heard: list[str] = []

        async def hear(message: CancelCompletion) -> None:
            heard.append(message.completion_id)

        subject = cancel_completion("instance_x")
        for _ in range(2):
            await world.bus(Service.AI_BROKER, Hear(subject, CancelCompletion, hear))
        sender = await world.bus(Service.GATEWAY)
        message = CancelCompletion(tenant=TENANT, completion_id="c1")
        await sender.announce(subject, message)
        await until(world.clock, lambda: len(heard) >= 2)
        assert heard == ["c1", "c1"]

    async def test_hearing_survives_garbage_and_bugs(self, world: BusWorld) -> None:
        """What does not decode, or fails, is dropped; the next is heard."""
        heard: list[str] = []

        async def hear(message: CancelCompletion) -> None:
            if message.completion_id == "bad":
                raise ZeroDivisionError
            heard.append(message.completion_id)

        subject = cancel_completion("instance_y")
        await world.bus(Service.AI_BROKER, Hear(subject, CancelCompletion, hear))
        sender = await world.bus(Service.GATEWAY)
        await world.inject(subject, b"\xff garbage")
        for name in ("bad", "good"):
            message = CancelCompletion(tenant=TENANT, completion_id=name)
            await sender.announce(subject, message)
        await until(world.clock, lambda: bool(heard))
        assert heard == ["good"]

    async def test_a_watch_hears_while_it_is_open(self, world: BusWorld) -> None:
        """Deltas arrive in order; what does not decode is dropped."""
        sender = await world.bus(Service.AGENT_RUNTIME)
        watcher = await world.bus(Service.GATEWAY)
        subject = live(TENANT, "task_1")
        async with watcher.watch(subject, TextDelta) as deltas:
            await world.inject(subject, b"garbage")
            for number in range(3):
                await sender.announce(subject, TextDelta(part=0, text=str(number)))
            found = [(await anext(deltas)).text for _ in range(3)]
        assert found == ["0", "1", "2"]
