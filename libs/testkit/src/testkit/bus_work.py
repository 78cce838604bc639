"""What every bus promises of durable messages: settled, never lost in silence."""

import pytest

from contracts.steps import CancelStep
from contracts.subjects import CANCEL_STEP, Service
from faults import PermanentFault, TransientFault
from messaging.bus import Delivery
from messaging.subscriptions import Work
from testkit.bus_world import RECEIVER, TENANT, BusWorld, message_of, outgoing, until


class WorkPromises:
    """Durable messages: delivered, settled, redelivered, given up."""

    async def test_a_published_message_reaches_its_handler(
        self, world: BusWorld
    ) -> None:
        """The body, the tenant and the message id arrive as they were sent."""
        seen: list[tuple[CancelStep, Delivery]] = []

        async def handle(message: CancelStep, delivery: Delivery) -> None:
            seen.append((message, delivery))

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(1))
        await until(world.clock, lambda: bool(seen))
        message, delivery = seen[0]
        assert message == message_of(1)
        assert delivery.message_id == "message_1"
        assert delivery.tenant == TENANT
        assert delivery.deliveries == 1

    async def test_messages_wait_for_their_receiver(self, world: BusWorld) -> None:
        """What is published while no receiver runs is delivered when one does."""
        seen: list[str] = []

        async def handle(_: CancelStep, delivery: Delivery) -> None:
            seen.append(delivery.message_id)

        first = await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, ignore))
        await world.stop(first)
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(2))
        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        await until(world.clock, lambda: bool(seen))
        assert seen == ["message_2"]

    async def test_a_transient_fault_is_redelivered_with_its_delay(
        self, world: BusWorld
    ) -> None:
        """The same message comes again, not before the delay that was asked for."""
        times_s: list[float] = []

        async def handle(_: CancelStep, __: Delivery) -> None:
            times_s.append(world.clock.monotonic())
            if len(times_s) == 1:
                raise TransientFault("the store is away", retry_after_s=0.4)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(3))
        await until(world.clock, lambda: len(times_s) == 2)
        assert times_s[1] - times_s[0] >= 0.38

    async def test_a_transient_fault_never_exhausts_deliveries(
        self, world: BusWorld
    ) -> None:
        """More transient faults than a bug has tries still end in success."""
        tries = 0

        async def handle(_: CancelStep, __: Delivery) -> None:
            nonlocal tries
            tries += 1
            if tries <= world.bug_tries + 2:
                raise TransientFault("the store is away", retry_after_s=0.01)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(4))
        await until(world.clock, lambda: tries == world.bug_tries + 3)
        assert world.letters(RECEIVER) == ()

    async def test_a_permanent_fault_becomes_a_dead_letter(
        self, world: BusWorld
    ) -> None:
        """It is tried once and kept with the fault's code."""
        tries = 0

        async def handle(_: CancelStep, __: Delivery) -> None:
            nonlocal tries
            tries += 1
            raise PermanentFault("this can never work", code="not-found")

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(5))
        await until(world.clock, lambda: bool(world.letters(RECEIVER)))
        letter = world.letters(RECEIVER)[0]
        assert (letter.message_id, letter.reason) == ("message_5", "not-found")
        assert tries == 1

    async def test_a_bug_is_retried_then_becomes_a_dead_letter(
        self, world: BusWorld
    ) -> None:
        """An exception loses nothing: it is tried up to the limit, then kept."""
        tries = 0

        async def handle(_: CancelStep, __: Delivery) -> None:
            nonlocal tries
            tries += 1
            raise ZeroDivisionError

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(6))
        await until(world.clock, lambda: bool(world.letters(RECEIVER)))
        assert world.letters(RECEIVER)[0].reason == "internal-error"
        assert tries == world.bug_tries

    async def test_garbage_becomes_a_dead_letter(self, world: BusWorld) -> None:
        """Bytes that are no message are kept with a reason; others go on."""
        seen: list[str] = []

        async def handle(_: CancelStep, delivery: Delivery) -> None:
            seen.append(delivery.message_id)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(7, body=b"\xff\x00{{{"))
        await sender.publish(outgoing(8))
        await until(world.clock, lambda: bool(world.letters(RECEIVER)) and bool(seen))
        assert world.letters(RECEIVER)[0].reason == "invalid"
        assert seen == ["message_8"]

    async def test_a_message_for_another_tenant_becomes_a_dead_letter(
        self, world: BusWorld
    ) -> None:
        """Nobody writes into another tenant by naming it in the body."""
        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, ignore))
        sender = await world.bus(Service.ORCHESTRATOR)
        body = message_of(9, tenant="globex").encode()
        await sender.publish(outgoing(9, body=body))
        await until(world.clock, lambda: bool(world.letters(RECEIVER)))
        assert world.letters(RECEIVER)[0].reason == "forbidden"

    async def test_a_resend_passes_deduplication(self, world: BusWorld) -> None:
        """The same send is stored once; the next send of the same id is delivered."""
        seen: list[str] = []

        async def handle(_: CancelStep, delivery: Delivery) -> None:
            seen.append(delivery.message_id)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        await sender.publish(outgoing(10))
        await sender.publish(outgoing(10))
        await sender.publish(outgoing(10, send=1))
        await sender.publish(outgoing(11))
        await until(world.clock, lambda: "message_11" in seen)
        await until(world.clock, lambda: seen.count("message_10") >= 2)
        assert sorted(seen) == ["message_10", "message_10", "message_11"]

    async def test_handlers_run_at_most_as_many_as_workers(
        self, world: BusWorld
    ) -> None:
        """Concurrency is bounded per process, whatever waits in the stream."""
        running, most, done = 0, 0, 0

        async def handle(_: CancelStep, __: Delivery) -> None:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await world.clock.sleep(0.05)
            running -= 1
            done += 1

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle, workers=3))
        sender = await world.bus(Service.ORCHESTRATOR)
        for number in range(100, 112):
            await sender.publish(outgoing(number))
        await until(world.clock, lambda: done == 12)
        assert most == 3

    async def test_an_oversized_message_is_refused(self, world: BusWorld) -> None:
        """Too much is a permanent fault, and the bus works on."""
        seen: list[str] = []

        async def handle(_: CancelStep, delivery: Delivery) -> None:
            seen.append(delivery.message_id)

        await world.bus(RECEIVER, Work(CANCEL_STEP, CancelStep, handle))
        sender = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(PermanentFault) as caught:
            await sender.publish(outgoing(12, body=b"x" * (1024 * 1024 - 100)))
        assert caught.value.code == "too-large"
        await sender.publish(outgoing(13))
        await until(world.clock, lambda: seen == ["message_13"])


async def ignore(_: CancelStep, __: Delivery) -> None:
    """Process a message by doing nothing."""
