"""A completion is paid once, whoever asks again and whichever replica dies."""

import asyncio
import contextlib
from datetime import timedelta

from broker_world import DONE, GOOD, SEEN, USAGE, Sink, World, play

from ai_broker.domain.vendor import Started, Text
from ai_broker.handlers import Desk, prune, sweep, tell
from ai_broker.ports import Limits
from contracts.frames import Finished, Opened, TextDelta
from contracts.problems import Code
from contracts.usage import EndState, UsageSource
from faults import TransientFault


def test_an_answer_is_paid_once_and_repeated_free() -> None:
    """A stored answer is replayed on any replica, and no vendor is asked again."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE]]
        one = await world.ask(world.replica("a"))
        deadline = world.clock.now() + timedelta(seconds=5)
        again = await world.ask(world.replica("b"), deadline=deadline)
        silent = await world.ask(world.replica("b"), deltas=False)
        assert [type(each) for each in one.frames] == [
            Opened, TextDelta, TextDelta, Finished,
        ]  # fmt: skip
        assert one.text == again.text == "Good day"
        assert one.finished.completion == again.finished.completion
        assert [type(each) for each in silent.frames] == [Opened, Finished]
        assert len(world.first.attempts) == 1
        (record,) = await world.ledger()
        assert record.usage == USAGE
        assert record.source is UsageSource.VENDOR
        assert record.end_state is EndState.COMPLETED
        assert record.attempt_id == world.first.attempts[0]
        assert record.model == "model-1-2026"
        assert one.finished.completion.attempts[0].attempt_id == record.attempt_id

    play(scene)


def test_another_question_under_the_same_id_is_a_conflict() -> None:
    """An id names one question; another tenant's equal id is another question."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE], [*GOOD, DONE]]
        desk = world.replica("a")
        await world.ask(desk)
        other = await world.ask(desk, output_tokens_max=5)
        assert other.code is Code.CONFLICT
        assert (await world.ask(desk, tenant="globex")).text == "Good day"
        assert len(await world.ledger()) == 2

    play(scene)


def test_repeats_join_the_running_answer() -> None:
    """Whoever asks again meanwhile, here or elsewhere, shares one vendor call."""

    async def scene(world: World) -> None:
        slow = [Started(200, None), Text(0, "Good "), 30.0, Text(0, "day"), SEEN, DONE]
        world.first.scripts = [slow]
        here, elsewhere = world.replica("a"), world.replica("b")

        async def later(desk: Desk, delay_s: float) -> Sink:
            await world.clock.sleep(delay_s)
            return await world.ask(desk)

        sinks = await asyncio.gather(
            later(here, 0), later(here, 1), later(elsewhere, 1), later(here, 29)
        )
        assert [each.text for each in sinks] == ["Good day"] * 4
        assert len({each.finished.completion.created_at for each in sinks}) == 1
        for sink in sinks:
            opened = sink.frames[0]
            assert isinstance(opened, Opened)
            assert opened.instance == "a", "a cancel must reach the one that works"
        assert len(await world.ledger()) == 1

    play(scene)


def test_a_dead_owner_is_taken_over_and_its_attempt_recorded() -> None:
    """A crash between answer and commit: one unknown attempt and one more call."""

    async def scene(world: World) -> None:
        dead, database = world.replica("a", Limits(commit_tries=2)), world.database

        def crash() -> None:
            world.database = database.reopen()

        world.first.scripts = [[*GOOD, crash, DONE], [*GOOD, DONE]]
        try:
            await world.ask(dead)
        except TransientFault:
            pass
        else:
            raise AssertionError("the dead replica cannot have stored anything")
        sink = await world.ask(world.replica("b"))
        assert sink.text == "Good day"
        unknown, paid = await world.ledger()
        assert unknown.end_state is EndState.UNKNOWN
        assert unknown.source is UsageSource.UNKNOWN
        assert unknown.usage.input_tokens > 0
        assert unknown.usage.output_tokens > 0
        assert paid.usage == USAGE
        assert [each.end_state for each in sink.finished.completion.attempts] == [
            EndState.UNKNOWN,
            EndState.COMPLETED,
        ]

    play(scene)


def test_a_late_owner_corrects_its_attempt_and_keeps_out_of_the_answer() -> None:
    """A replica that lost its claim reports the real usage by a higher revision."""

    async def scene(world: World) -> None:
        world.first.scripts = [[20.0, *GOOD, DONE], [Text(0, "Hello"), SEEN, DONE]]
        frozen = world.replica("a", Limits(lease_s=1, heartbeat_s=500))

        async def impatient() -> Sink:
            await world.clock.sleep(5)
            desk = world.replica("b")
            answered = await world.ask(desk)
            await tell(desk.deps)
            return answered

        late, taken = await asyncio.gather(world.ask(frozen), impatient())
        assert late.finished.completion == taken.finished.completion
        assert taken.text == "Hello"
        given_up, corrected, answered = await world.ledger()
        assert given_up.attempt_id == corrected.attempt_id
        assert (given_up.revision, corrected.revision) == (0, 1)
        assert given_up.end_state is EndState.UNKNOWN
        assert corrected.end_state is EndState.COMPLETED
        assert corrected.usage == USAGE
        assert answered.attempt_id != corrected.attempt_id

    play(scene)


def test_an_abandoned_attempt_is_recorded_though_nobody_asks_again() -> None:
    """The sweep gives every dispatched attempt its line; never before its time."""

    async def scene(world: World) -> None:
        database = world.database

        def crash() -> None:
            world.database = database.reopen()

        world.first.scripts = [[crash, 1.0, *GOOD, DONE]]
        with contextlib.suppress(TransientFault):
            await world.ask(world.replica("a", Limits(commit_tries=1)))
        desk = world.replica("b")
        assert await sweep(desk.deps) == 0
        await world.clock.sleep(80)
        assert await sweep(desk.deps) == 1
        assert await sweep(desk.deps) == 0
        (record,) = await world.ledger()
        assert record.end_state is EndState.UNKNOWN
        world.first.scripts = [[*GOOD, DONE]]
        assert (await world.ask(desk)).text == "Good day"

    play(scene)


def test_what_nobody_can_answer_is_refused_unpaid() -> None:
    """An unknown model, or a field that no candidate has, never becomes an attempt."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        unknown = await world.ask(desk, model="nobody/nothing")
        assert unknown.code is Code.MODEL_UNKNOWN
        invalid = await world.ask(desk, sampling={"temperature": 1})
        assert invalid.code is Code.INVALID
        assert "sampling.temperature" in invalid.failed.error.problem.detail
        assert await world.ledger() == []

    play(scene)


def test_what_was_left_out_is_told_with_the_answer() -> None:
    """A caller that lets fields be dropped reads which ones, at every repeat."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.scripts = [[*GOOD, DONE]]
        asked = {"sampling": {"temperature": 1}, "drop_unsupported": True}
        for _ in range(2):
            sink = await world.ask(desk, **asked)
            assert sink.finished.completion.dropped == ("sampling.temperature",)

    play(scene)


def test_a_joined_caller_learns_who_took_over() -> None:
    """A cancel goes to whoever is named last, so a take-over is named too."""

    async def scene(world: World) -> None:
        world.first.scripts = [[500.0, DONE], [*GOOD, DONE]]
        dead = asyncio.ensure_future(
            world.ask(world.replica("a", Limits(lease_s=3, heartbeat_s=500)))
        )
        await world.clock.sleep(1)
        sink = await world.ask(world.replica("b"))
        dead.cancel()
        named = [each.instance for each in sink.frames if isinstance(each, Opened)]
        assert named == ["a", "b"]
        assert sink.text == "Good day"

    play(scene)


def test_old_answers_are_forgotten() -> None:
    """What ended long ago goes with its attempts; what is open or recent stays."""

    async def scene(world: World) -> None:
        desk = world.replica("a", Limits(keep_s=3_600))
        world.first.scripts = [[*GOOD, DONE], [*GOOD, DONE], [*GOOD, DONE]]
        await world.ask(desk, completion_id="old")
        await world.clock.sleep(3_000)
        await world.ask(desk, completion_id="recent")
        await world.clock.sleep(700)
        assert await prune(desk.deps) == 0, "the ledger was not told"
        await tell(desk.deps)
        assert await prune(desk.deps) == 1
        assert await prune(desk.deps) == 0
        again = {"deadline": world.clock.now() + timedelta(seconds=60)}
        assert (await world.ask(desk, completion_id="recent", **again)).text
        assert len(world.first.attempts) == 2
        assert (await world.ask(desk, completion_id="old", **again)).text
        assert len(world.first.attempts) == 3

    play(scene, limit_s=9_000)
