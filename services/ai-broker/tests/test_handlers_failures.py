"""Vendors that fail and callers that give up: every call keeps its ledger line."""

import asyncio
from datetime import timedelta

from broker_world import DONE, GOOD, USAGE, World, play

from ai_broker.domain.vendor import Failure, FailureKind, Started, Text
from ai_broker.handlers import cancel
from contracts.completions import ChatTurn, Role, TextPart, ToolResultPart
from contracts.frames import CancelCompletion
from contracts.problems import Code
from contracts.usage import EndState, UsageSource


def test_a_cancel_stops_the_vendor_and_settles_what_arrived() -> None:
    """A cancelled call is settled from what was heard, and flagged."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Text(0, "Good "), 500.0, DONE], [*GOOD, DONE]]
        desk = world.replica("a")
        message = CancelCompletion(tenant="acme", completion_id="step_1:0")

        async def give_up() -> None:
            await world.clock.sleep(3)
            await cancel(message.model_copy(update={"tenant": "globex"}), desk)
            await world.clock.sleep(3)
            await cancel(message, desk)

        began = world.clock.now()
        sink, _ = await asyncio.gather(world.ask(desk), give_up())
        assert sink.code is Code.CANCELLED
        assert (world.clock.now() - began).total_seconds() < 7
        (record,) = await world.ledger()
        assert record.end_state is EndState.CANCELLED
        assert record.source is UsageSource.ESTIMATED
        assert 0 < record.usage.output_tokens < 10
        assert sink.failed.attempts[0].attempt_id == record.attempt_id
        assert (await world.ask(desk)).text == "Good day"

    play(scene)


def test_a_cancel_between_attempts_ends_the_wait() -> None:
    """A caller that gives up during a retry's pause is not kept waiting."""

    async def scene(world: World) -> None:
        wait = Failure(FailureKind.REFUSED, "later", 429, headers={"retry-after": "50"})
        world.first.scripts = [[wait]]
        desk = world.replica("a")

        async def give_up() -> None:
            await world.clock.sleep(2)
            await cancel(
                CancelCompletion(tenant="acme", completion_id="step_1:0"), desk
            )

        sink, _ = await asyncio.gather(world.ask(desk), give_up())
        assert sink.code is Code.CANCELLED
        (record,) = await world.ledger()
        assert record.usage.total == 0

    play(scene, limit_s=10)


def test_a_cut_answer_never_looks_clean() -> None:
    """After content a cut is an explicit error; asking again makes a new attempt."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Started(200, "r"), Text(0, "Good ")], [*GOOD, DONE]]
        desk = world.replica("a")
        sink = await world.ask(desk, model="smart")
        assert sink.code is Code.STREAM_CUT
        assert sink.failed.error.retryable
        assert world.second.attempts == []
        (record,) = await world.ledger()
        assert record.end_state is EndState.CUT
        assert record.source is UsageSource.ESTIMATED
        again = await world.ask(desk, model="smart")
        assert again.text == "Good day"
        assert len(again.finished.completion.attempts) == 2

    play(scene)


def test_content_that_nobody_saw_does_not_bind() -> None:
    """Without deltas a cut answer is made anew, and nothing of the first stays."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Text(0, "Bad "), Text(0, "day")], [*GOOD, DONE]]
        sink = await world.ask(world.replica("a"), deltas=False)
        (part,) = sink.finished.completion.parts
        assert isinstance(part, TextPart)
        assert part.text == "Good day"
        assert [each.end_state for each in await world.ledger()] == [
            EndState.CUT,
            EndState.COMPLETED,
        ]

    play(scene)


def test_a_rate_limit_is_waited_out() -> None:
    """A 429 consumed nothing; the same vendor is asked again when it said so."""

    async def scene(world: World) -> None:
        soon = Failure(FailureKind.REFUSED, "soon", 429, headers={"retry-after": "0.7"})
        world.first.scripts = [[soon], [*GOOD, DONE]]
        began = world.clock.now()
        sink = await world.ask(world.replica("a"), model="smart")
        assert sink.text == "Good day"
        assert (world.clock.now() - began).total_seconds() >= 0.7
        limited, paid = await world.ledger()
        assert limited.usage.total == 0
        assert limited.source is UsageSource.VENDOR
        assert limited.end_state is EndState.FAILED
        assert limited.http_status == 429
        assert paid.usage == USAGE

    play(scene)


def test_another_vendor_answers_when_the_first_cannot() -> None:
    """Failover is invisible before content, and both calls are on the ledger."""

    async def scene(world: World) -> None:
        broke = Failure(FailureKind.REFUSED, "no money", 429, "insufficient_quota")
        world.first.scripts = [[broke]]
        world.second.scripts = [[*GOOD, DONE]]
        sink = await world.ask(world.replica("a"), model="smart")
        assert sink.text == "Good day"
        assert [each.vendor for each in await world.ledger()] == ["first", "second"]
        world.first.scripts = [[broke]]
        alone = await world.ask(world.replica("a"), completion_id="step_2:0")
        assert alone.code is Code.VENDOR_UNAVAILABLE
        assert not alone.failed.error.retryable

    play(scene)


def test_retries_are_bounded() -> None:
    """Vendors that never recover are asked a fixed number of times."""

    async def scene(world: World) -> None:
        down = Failure(FailureKind.REFUSED, "down", 503)
        world.first.scripts = [[down] for _ in range(9)]
        world.second.scripts = [[down] for _ in range(9)]
        sink = await world.ask(world.replica("a"), model="smart")
        assert sink.code is Code.VENDOR_UNAVAILABLE
        assert sink.failed.error.retryable
        assert len(sink.failed.attempts) == len(await world.ledger()) == 6

    play(scene)


def test_a_deadline_ends_the_call() -> None:
    """A vendor that is too slow is left, and its call estimated as timed out."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Started(200, None), 500.0, DONE]]
        began = world.clock.now()
        sink = await world.ask(world.replica("a"))
        assert sink.code is Code.DEADLINE
        assert world.clock.now() < began + timedelta(seconds=60), "heard in time"
        (record,) = await world.ledger()
        assert record.end_state is EndState.TIMED_OUT
        assert record.usage.output_tokens > 1_000, "it may have written everything"
        late = await world.ask(
            world.replica("a"), completion_id="c", deadline=world.clock.now()
        )
        assert late.code is Code.DEADLINE
        assert len(await world.ledger()) == 1

    play(scene)


def test_an_unreadable_answer_keeps_its_ledger_line() -> None:
    """Whatever an adapter trips over, the attempt is settled and may be repeated."""

    async def scene(world: World) -> None:
        def trip() -> None:
            raise ValueError("no adapter thought of this")

        world.first.scripts = [[Started(200, "r"), trip], [*GOOD, DONE]]
        sink = await world.ask(world.replica("a"))
        assert sink.text == "Good day"
        assert [each.end_state for each in await world.ledger()] == [
            EndState.CUT,
            EndState.COMPLETED,
        ]

    play(scene)


def test_paying_in_vain_has_a_limit() -> None:
    """An answer that always breaks is not paid for until the deadline."""

    async def scene(world: World) -> None:
        desk, tries = world.replica("a"), 0
        world.first.scripts = [[Started(200, "r"), Text(0, "Go")] for _ in range(40)]
        sink = await world.ask(desk)
        while sink.failed.error.retryable:
            tries += 1
            assert tries < 40
            sink = await world.ask(desk)
        assert sink.code is Code.VENDOR_UNAVAILABLE
        assert "paid 12 times" in sink.failed.error.problem.detail
        assert len(sink.failed.attempts) == len(await world.ledger()) == 12

    play(scene)


def test_a_vendor_that_never_ends_is_cut_off() -> None:
    """The caller hears why, it is settled by an estimate, nobody retries it."""

    async def scene(world: World) -> None:
        forever = [Text(0, "x" * 1_000) for _ in range(200)]
        world.first.scripts = [forever, forever]
        sink = await world.ask(world.replica("a"), output_tokens_max=100)
        assert sink.code is Code.STREAM_CUT
        assert "output_tokens_max" in sink.failed.error.problem.detail
        assert len(sink.text) < 100 * 32 + 65_536
        (record,) = await world.ledger()
        assert record.end_state is EndState.CUT
        assert record.source is UsageSource.ESTIMATED
        assert record.usage.output_tokens > 10_000

    play(scene)


def test_an_endless_answer_that_nobody_saw_is_asked_elsewhere() -> None:
    """Never the same vendor again, and endless empty pieces count too."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Text(0, "") for _ in range(20_000)]]
        world.second.scripts = [[*GOOD, DONE]]
        changes = {"model": "smart", "output_tokens_max": 100, "deltas": False}
        sink = await world.ask(world.replica("a"), **changes)
        assert sink.finished.completion.vendor == "second"
        cut, answered = await world.ledger()
        assert (cut.end_state, answered.end_state) == (
            EndState.CUT,
            EndState.COMPLETED,
        )

    play(scene)


def test_a_malformed_request_is_refused_unpaid() -> None:
    """The error names the place; nothing is claimed, so a mended repeat may follow."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE]]
        desk = world.replica("a")
        result = ToolResultPart(call_id="c9", content=())
        wrong = ChatTurn(role=Role.TOOL, parts=(result,))
        sink = await world.ask(desk, turns=(wrong,))
        assert sink.code is Code.INVALID
        assert "turns[0].parts[0].call_id" in sink.failed.error.problem.detail
        assert await world.ledger() == []
        assert (await world.ask(desk)).text == "Good day"

    play(scene)
