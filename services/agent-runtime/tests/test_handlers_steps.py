"""Steps at work: crashes, cancels, repeats and limits, in virtual time."""

import pytest
from agent_world import (
    CLERK,
    World,
    answer,
    call,
    checks_letter,
    failure,
    play,
    without_schema,
)

from contracts.completions import Completion, CompletionRequest, FinishReason, TextPart
from contracts.frames import Failed
from contracts.problems import Code
from contracts.steps import StepOutcome
from faults import TransientFault


def test_step_is_worked_on_turn_by_turn() -> None:
    """A doorbell becomes turns with their tools, and one end with all of them."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process)
        await world.ring(process, world.brief())
        (end,) = await world.until_finished()
        assert end.outcome is StepOutcome.COMPLETED
        assert end.output == {"total": 7}
        assert end.employee_version == 1
        assert end.fence == 1
        assert [turn.turn for turn in end.turns] == [1, 2, 3]
        assert end.turns[0].tool_calls[0].result == "2 lamps at 3.50 make 8.00"
        assert end.turns[1].tool_calls[0].result == "7"
        assert end.attempts == ()
        assert [each.turn.turn for each in world.turns()] == [1, 2, 3]
        assert world.broker.paid == ["step_one:1", "step_one:2", "step_one:3"]
        assert world.knows("bell_step_one", "bell_other") == {"bell_step_one"}

    play(checks_letter, test)


@pytest.mark.parametrize("moment", range(1, 16))
def test_process_may_die_at_any_moment(moment: int) -> None:
    """Another replica goes on at the turn; nothing is paid or told twice."""

    async def test(world: World) -> None:
        hiring = world.process("h", steps_max=1)
        await world.hire(hiring)
        hiring.is_cut_off = True
        doomed = world.process("a", freeze_at=moment)
        bell = world.brief()
        ringing = world.spawn(world.ring(doomed, bell))
        await world.clock.sleep(5)
        ringing.cancel()
        rescuer = world.process("b")
        await world.ring(rescuer, bell)  # JetStream delivers it again
        (end,) = await world.until_finished()
        await world.clock.sleep(30)
        assert world.finished() == [end]
        assert end.outcome is StepOutcome.COMPLETED
        assert [turn.turn for turn in end.turns] == [1, 2, 3]
        assert len(world.turns()) == 3
        assert len(world.broker.paid) == len(set(world.broker.paid)) == 3

    play(checks_letter, test)


def test_bell_that_rings_twice_starts_one_run() -> None:
    """The lease is the dedupe, during the work and after it."""

    async def test(world: World) -> None:
        one, two = world.process("a"), world.process("b")
        await world.hire(one)
        bell = world.brief()
        await world.ring(one, bell)
        await world.ring(two, bell)
        await world.until_finished()
        await world.ring(two, bell)
        await world.clock.sleep(15)
        assert len(world.finished()) == 1
        assert len(world.broker.asked) == 3

    play(checks_letter, test)


def test_paused_process_wakes_up_to_a_stale_fence() -> None:
    """Whoever lost its lease stops quietly, and nothing of it counts."""

    async def test(world: World) -> None:
        paused = world.process("a")
        await world.hire(paused)
        await world.ring(paused, world.brief())
        paused.is_cut_off = True
        other = world.process("b")
        (end,) = await world.until_finished()
        paused.is_cut_off = False
        await world.clock.sleep(60)
        assert end.fence == 2
        assert world.finished() == [end]
        assert {each.fence for each in world.turns()} == {2}
        assert paused.crew.free == other.crew.free == 8

    play(checks_letter, test)


def test_unknown_employee_ends_the_step_at_once() -> None:
    """The task learns ``employee-unknown`` without any model call."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.ring(process, world.brief(employee="nobody"))
        (end,) = world.finished()
        assert end.outcome is StepOutcome.FAILED
        assert end.problem is not None
        assert end.problem.code is Code.EMPLOYEE_UNKNOWN
        assert world.broker.asked == []
        assert process.crew.free == 8

    play(checks_letter, test)


def test_full_process_leaves_steps_in_the_store() -> None:
    """Overload waits unclaimed, and every step is done in the end."""
    busy: list[int] = []

    async def test(world: World) -> None:
        process = world.process("a", steps_max=2)
        await world.hire(process)
        for number in range(7):
            await world.ring(process, world.brief(f"n{number}"))
            busy.append(2 - process.crew.free)
        ends = await world.until_finished(7)
        assert {end.outcome for end in ends} == {StepOutcome.COMPLETED}
        assert max(busy) == 2
        assert world.clock.monotonic() < 6, "a freed seat is taken at once"

    play(checks_letter, test)


def test_cancel_before_the_bell_is_remembered() -> None:
    """A cancel may overtake its step: the step then never begins."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process)
        bell = world.brief()
        await world.cancel(process, bell)
        await world.ring(process, bell)
        await world.clock.sleep(5)
        (end,) = world.finished()
        assert (end.outcome, end.fence) == (StepOutcome.CANCELLED, 0)
        assert world.broker.asked == []

    play(checks_letter, test)


@pytest.mark.parametrize(("canceller", "limit_s"), [("a", 0.2), ("b", 2.5)])
def test_cancel_reaches_the_running_model_call(canceller: str, limit_s: float) -> None:
    """The vendor call is stopped and what it cost is told, from any replica."""

    async def test(world: World) -> None:
        processes = {name: world.process(name) for name in ("a", "b")}
        await world.hire(processes["a"])
        bell = world.brief()
        await world.ring(processes["a"], bell)
        await world.clock.sleep(1.1)
        begun_s = world.clock.monotonic()
        await world.cancel(processes[canceller], bell)
        (end,) = await world.until_finished()
        assert world.clock.monotonic() - begun_s < limit_s
        assert end.outcome is StepOutcome.CANCELLED
        assert [each.attempt_id for each in end.attempts] == ["attempt_stopped"]
        assert world.broker.cancelled == ["step_one:1"]

    play(lambda _: None, test)


def test_cancel_of_a_dead_process_step_is_answered() -> None:
    """The flag stays on the lease; whoever claims it next ends the step."""

    async def test(world: World) -> None:
        dead = world.process("a")
        await world.hire(dead)
        bell = world.brief()
        await world.ring(dead, bell)
        await world.clock.sleep(0.5)
        dead.is_cut_off = True
        other = world.process("b")
        await world.cancel(other, bell)
        assert world.finished() == []
        (end,) = await world.until_finished()
        assert end.outcome is StepOutcome.CANCELLED
        assert world.clock.monotonic() < 13

    play(lambda _: None, test)


def test_wrong_answer_is_told_back_and_corrected() -> None:
    """The model hears what is wrong, and its next answer may do."""

    def script(request: CompletionRequest) -> Completion:
        is_first = request.completion_id.endswith(":1")
        return answer(request, '{"total": "7"}' if is_first else '{"total": 7}')

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process)
        await world.ring(process, world.brief())
        (end,) = await world.until_finished()
        assert end.output == {"total": 7}
        part = world.broker.asked[1].turns[-1].parts[0]
        assert isinstance(part, TextPart)
        assert "/total" in part.text

    play(script, test)


def test_answer_that_stays_wrong_fails_the_step() -> None:
    """Two corrections, then ``output-invalid`` with the reason."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process)
        await world.ring(process, world.brief())
        (end,) = await world.until_finished()
        assert end.problem is not None
        assert end.problem.code is Code.OUTPUT_INVALID
        assert len(end.turns) == 3

    play(lambda request: answer(request, "seven"), test)


def test_passing_trouble_is_asked_through_with_one_id() -> None:
    """Cuts and outages repeat the same completion id; vain calls are told."""
    trouble: list[Failed | Exception] = [
        failure(Code.UNAVAILABLE, retryable=True, attempts=("attempt_vain",)),
        TransientFault("cut", code="stream-cut"),
        TransientFault("full", code="overloaded", retry_after_s=3),
    ]

    def script(request: CompletionRequest) -> Completion | Failed | Exception:
        return trouble.pop() if trouble else answer(request, '{"total": 7}')

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process)
        await world.ring(process, world.brief())
        (end,) = await world.until_finished()
        assert end.outcome is StepOutcome.COMPLETED
        assert {each.completion_id for each in world.broker.asked} == {"step_one:1"}
        assert [each.attempt_id for each in end.attempts] == ["attempt_vain"]
        assert world.clock.monotonic() > 3

    play(script, test)


def test_outage_beyond_the_deadline_is_named() -> None:
    """Time runs out with ``vendor-unavailable``, not with silence."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process, without_schema(wall_time_s=60))
        await world.ring(process, world.brief())
        (end,) = await world.until_finished()
        assert end.problem is not None
        assert end.problem.code is Code.VENDOR_UNAVAILABLE
        assert world.clock.monotonic() < 61

    play(lambda _: TransientFault("down"), test)


@pytest.mark.parametrize(
    "outcome",
    [
        failure(Code.MODEL_UNKNOWN, retryable=False),
        TransientFault("no such model", code="model-unknown"),
    ],
)
def test_permanent_refusal_fails_the_step(outcome: Failed | Exception) -> None:
    """What asking again cannot change is not asked again."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process)
        await world.ring(process, world.brief())
        (end,) = await world.until_finished()
        assert end.problem is not None
        assert end.problem.code is Code.MODEL_UNKNOWN
        assert len(world.broker.asked) == 1

    play(lambda _: outcome, test)


def test_bug_in_one_step_spares_the_others() -> None:
    """It is tried again some times, then failed; its neighbours complete."""

    def script(request: CompletionRequest) -> Completion | Exception:
        bug = RuntimeError("a bug")
        return bug if request.task_id == "task_bad" else checks_letter(request)

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process)
        await world.ring(process, world.brief("bad"))
        await world.ring(process, world.brief("good"))
        ends = {end.task_id: end for end in await world.until_finished(2)}
        assert ends["task_good"].outcome is StepOutcome.COMPLETED
        bad = ends["task_bad"].problem
        assert bad is not None
        assert bad.code is Code.INTERNAL

    play(script, test)


def test_watchers_can_put_the_text_together() -> None:
    """Pieces meet without a gap, and snapshots begin at 0."""
    said = "The letter states eight, but two lamps at 3.50 make seven. " * 3

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process, without_schema())
        await world.ring(process, world.brief())
        await world.until_finished()
        text = ""
        for delta in world.watchers.seen:
            assert delta.offset in {0, len(text)}
            text = text[: delta.offset] + delta.text
        assert text == said
        snapshots = [each for each in world.watchers.seen if each.offset == 0]
        assert len(snapshots) >= 4
        assert len(world.watchers.seen) < len(said)

    play(lambda request: answer(request, said), test)


def test_cut_answer_is_no_answer() -> None:
    """A stop at the length limit fails the step and says what to raise."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process, CLERK)
        await world.ring(process, world.brief())
        (end,) = await world.until_finished()
        assert end.problem is not None
        assert end.problem.code is Code.TOKEN_LIMIT

    play(lambda each: answer(each, '{"tot', finish=FinishReason.LENGTH), test)


def test_model_that_never_ends_is_stopped() -> None:
    """Tool calls without end meet the turn limit."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process, without_schema(turns_max=5))
        await world.ring(process, world.brief())
        (end,) = await world.until_finished()
        assert end.problem is not None
        assert end.problem.code is Code.TURN_LIMIT
        assert len(world.broker.paid) == 5

    play(lambda each: answer(each, call("calculator", '{"expression":"1+1"}')), test)
