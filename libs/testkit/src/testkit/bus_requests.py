"""What every bus promises of requests: one answer, or an error that says why."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from contracts.deadletters import ListDeadLetters
from contracts.delivery import Missing, MissingReply, Nothing
from contracts.problems import Code, ErrorEnvelope
from contracts.subjects import Service, dead_letters, missing
from faults import DeadlineExceeded, PermanentFault, TransientFault
from messaging.bus import Delivery
from messaging.refusals import Refused, refuse
from messaging.subscriptions import Answer
from testkit.bus_world import RECEIVER, TENANT, BusWorld, ask_missing


class RequestPromises:
    """Requests: answered once, or an error that says why."""

    async def test_a_request_is_answered(self, world: BusWorld) -> None:
        """The reply that the handler returned comes back."""

        async def answer(request: Missing, _: Delivery) -> MissingReply:
            return MissingReply(missing=request.message_ids[:1])

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        reply = await asker.request(
            missing(RECEIVER).to(None),
            Missing(message_ids=("a", "b")),
            MissingReply,
            timeout_s=5,
        )
        assert reply.missing == ("a",)

    async def test_nobody_listening_is_told_at_once(self, world: BusWorld) -> None:
        """No responders is a transient fault, long before the timeout."""
        asker = await world.bus(Service.ORCHESTRATOR)
        began_s = world.clock.monotonic()
        with pytest.raises(TransientFault) as caught:
            await ask_missing(asker)
        assert not isinstance(caught.value, DeadlineExceeded)
        assert world.clock.monotonic() - began_s < 2

    async def test_silence_is_a_deadline(self, world: BusWorld) -> None:
        """A handler that takes too long for its asker is DeadlineExceeded there."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            await world.clock.sleep(1.0)
            return MissingReply(missing=())

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(DeadlineExceeded):
            await ask_missing(asker, timeout_s=0.2)

    async def test_a_refusal_comes_back_as_it_is(self, world: BusWorld) -> None:
        """The asker reads the code and the detail of the refusal."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            raise refuse(Code.NOT_FOUND, "there is no such thing")

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(Refused) as caught:
            await ask_missing(asker)
        assert caught.value.envelope.problem.code == Code.NOT_FOUND
        assert caught.value.envelope.problem.detail == "there is no such thing"

    async def test_faults_and_bugs_become_envelopes(self, world: BusWorld) -> None:
        """A fault keeps its code; a bug is internal-error without its text."""
        faults: list[Exception] = [
            TransientFault("away", retry_after_s=3),
            PermanentFault("never", code="conflict"),
            ZeroDivisionError("a secret"),
        ]

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            raise faults.pop(0)

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        found: list[ErrorEnvelope] = []
        for _ in range(3):
            with pytest.raises(Refused) as caught:
                await ask_missing(asker)
            found.append(caught.value.envelope)
        codes = [each.problem.code for each in found]
        assert codes == [Code.UNAVAILABLE, Code.CONFLICT, Code.INTERNAL]
        assert [each.retryable for each in found] == [True, False, False]
        assert found[0].retry_after_s == 3
        assert "secret" not in found[2].problem.detail

    async def test_a_bad_body_is_refused_with_its_fields(self, world: BusWorld) -> None:
        """A request that does not decode is answered ``invalid``, at once."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            return MissingReply(missing=())

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(Refused) as caught:
            await asker.request(
                missing(RECEIVER).to(None), Nothing(), MissingReply, timeout_s=5
            )
        found = caught.value.envelope.problem
        assert found.code == Code.INVALID
        assert found.errors[0].pointer == "/message_ids"

    async def test_another_tenants_name_in_the_body_is_forbidden(
        self, world: BusWorld
    ) -> None:
        """The body's tenant must be the subject's; operators use the platform's."""
        asked: list[str | None] = []

        async def answer(request: ListDeadLetters, _: Delivery) -> Nothing:
            asked.append(request.tenant)
            return Nothing()

        verb = dead_letters(RECEIVER)
        await world.bus(RECEIVER, Answer(verb, ListDeadLetters, answer))
        asker = await world.bus(Service.GATEWAY)
        for named in ("globex", None):
            with pytest.raises(Refused) as caught:
                await asker.request(
                    verb.to(TENANT), ListDeadLetters(tenant=named), Nothing, timeout_s=5
                )
            assert caught.value.envelope.problem.code == Code.FORBIDDEN
        for address, named in ((verb.to(TENANT), TENANT), (verb.to(None), "globex")):
            request = ListDeadLetters(tenant=named)
            await asker.request(address, request, Nothing, timeout_s=5)
        assert asked == [TENANT, "globex"]

    async def test_a_full_replica_says_so_at_once(self, world: BusWorld) -> None:
        """Above its concurrency a replica answers ``overloaded``, retryable."""
        release = asyncio.Event()

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            await release.wait()
            return MissingReply(missing=())

        await world.bus(
            RECEIVER, Answer(missing(RECEIVER), Missing, answer, concurrency=1)
        )
        asker = await world.bus(Service.ORCHESTRATOR)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ask_missing(asker))
            await world.clock.sleep(0.2)
            with pytest.raises(Refused) as caught:
                await ask_missing(asker)
            release.set()
        assert caught.value.envelope.problem.code == Code.OVERLOADED
        assert caught.value.envelope.retryable
        assert first.result().missing == ()

    async def test_an_oversized_reply_becomes_an_error(self, world: BusWorld) -> None:
        """The asker reads ``too-large`` instead of waiting for nothing."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            return MissingReply(missing=("x" * 160,) * 60_000)

        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        with pytest.raises(Refused) as caught:
            await ask_missing(asker)
        assert caught.value.envelope.problem.code == Code.TOO_LARGE

    async def test_replicas_share_requests(self, world: BusWorld) -> None:
        """Each request is answered once, by one of the replicas."""
        answered: list[str] = []

        def answer_as(
            name: str,
        ) -> Callable[[Missing, Delivery], Awaitable[MissingReply]]:
            async def answer(_: Missing, __: Delivery) -> MissingReply:
                answered.append(name)
                return MissingReply(missing=())

            return answer

        for name in ("one", "two"):
            await world.bus(
                RECEIVER, Answer(missing(RECEIVER), Missing, answer_as(name))
            )
        asker = await world.bus(Service.ORCHESTRATOR)
        for _ in range(20):
            await ask_missing(asker)
        assert len(answered) == 20

    async def test_stopping_answers_what_had_arrived(self, world: BusWorld) -> None:
        """Draining a replica loses none of the requests that it was sent."""

        async def answer(_: Missing, __: Delivery) -> MissingReply:
            await world.clock.sleep(0.2)
            return MissingReply(missing=())

        first = await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        await world.bus(RECEIVER, Answer(missing(RECEIVER), Missing, answer))
        asker = await world.bus(Service.ORCHESTRATOR)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask_missing(asker)) for _ in range(40)]
            await world.clock.sleep(0.05)
            await world.stop(first)
            asked += [group.create_task(ask_missing(asker)) for _ in range(10)]
        assert all(each.result().missing == () for each in asked)
