from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from contracts import subjects
from contracts.completions import AttemptSummary, FinishReason
from contracts.message import Json, JsonObject
from contracts.problems import Code, problem
from contracts.steps import CancelStep, StepFinished, StepOutcome, StepRequested
from contracts.tasks import SubmitTask, TaskEventType, TaskFile, TaskStatus
from contracts.turns import ToolCallRecord, TurnFinished, TurnRecord
from contracts.usage import EndState, TokenUsage, UsageSource
from orchestrator.domain import run as runs
from orchestrator.domain.decision import CancelTimer, Decision, Refusal, SetTimer
from orchestrator.domain.definition import Definition, plain
from orchestrator.domain.state import Run
from orchestrator.domain.view import change, view

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORIGIN: Final = runs.Origin(3600, trace_id="ab" * 16)


def brief(definition: JsonObject | None = None) -> SubmitTask:
    """Build a submission; a plain task unless a definition is given."""
    return SubmitTask(
        task_id="task_1",
        tenant="acme",
        definition=definition or plain("clerk", "File it."),
        employee=None if definition else "clerk",
        goal=None if definition else "File it.",
        input={"number": 7},
        files=(TaskFile(name="a.txt", content="text"),),
        submitted_at=NOW - timedelta(seconds=1),
    )


def sequence(*employees: str) -> JsonObject:
    """Build a workflow in which these employees work one after the other."""
    entries: list[Json] = [
        {name: {"call": "employee", "with": {"employee": name, "goal": "Go on."}}}
        for name in employees
    ]
    return {**plain("clerk", "x"), "do": entries}


def plan(submitted: SubmitTask) -> runs.Plan:
    """Return what the run was asked to do."""
    definition = runs.definition_of(submitted)
    assert isinstance(definition, Definition)
    return runs.Plan(definition, submitted)


def started(submitted: SubmitTask | None = None) -> Run:
    """Return a run that has just begun."""
    return runs.start(submitted or brief(), NOW, ORIGIN).run


def attempt(name: str) -> AttemptSummary:
    """Build a vendor call of 3 input tokens."""
    return AttemptSummary(
        attempt_id=f"attempt_{name}",
        vendor="openai",
        model="m",
        end_state=EndState.COMPLETED,
        usage=TokenUsage(input_tokens=3),
        source=UsageSource.VENDOR,
    )


def turn(number: int) -> TurnRecord:
    """Build a turn of one attempt and one tool call."""
    return TurnRecord(
        turn=number,
        model="m",
        vendor="openai",
        finish_reason=FinishReason.STOP,
        tool_calls=(ToolCallRecord(call_id="c", name="t", arguments="", result=""),),
        attempts=(attempt(str(number)),),
        started_at=NOW,
        finished_at=NOW,
    )


def bell(run: Run, number: int, fence: int = 1) -> TurnFinished:
    """Build a turn's bell."""
    return TurnFinished(
        tenant="acme",
        task_id="task_1",
        step_id=run.active[0].step_id,
        fence=fence,
        turn=turn(number),
    )


def finish(
    run: Run,
    outcome: StepOutcome = StepOutcome.COMPLETED,
    output: Json = None,
    turns: int = 0,
    fence: int = 1,
) -> StepFinished:
    """Build the end of the run's active step."""
    return StepFinished(
        tenant="acme",
        task_id="task_1",
        step_id=run.active[0].step_id,
        fence=fence,
        outcome=outcome,
        output=output,
        problem=problem(Code.TURN_LIMIT, "Too many turns.")
        if outcome is StepOutcome.FAILED
        else None,
        employee_version=4,
        turns=tuple(turn(number) for number in range(1, turns + 1)),
        attempts=(attempt("failed"),),
        finished_at=NOW,
    )


def types(decision: Decision) -> list[str]:
    """Return what the decision writes into the history."""
    return [event.type.value for event in decision.events]


def numbers(decision: Decision) -> list[object]:
    """Return the numbers of the turns that the decision writes."""
    found: list[object] = []
    for event in decision.events:
        record = event.data.get("turn")
        if event.type is TaskEventType.TURN_FINISHED and isinstance(record, dict):
            found.append(record["turn"])
    return found


def test_a_task_starts_with_its_first_step() -> None:
    """The step's request carries the whole brief, and a timer guards it."""
    decision = runs.start(brief(), NOW, ORIGIN)
    assert types(decision) == ["task.started", "step.started"]
    assert [event.seq for event in decision.events] == [1, 2]
    assert decision.run.status is TaskStatus.RUNNING
    (owed,) = decision.owed
    assert owed.address == subjects.STEP.to("acme")
    assert owed.task_id == "task_1"
    request = owed.message
    assert isinstance(request, StepRequested)
    assert (request.employee, request.goal) == ("clerk", "File it.")
    assert request.input == {"number": 7}
    assert request.files == brief().files
    assert request.deadline == NOW + timedelta(hours=1)
    (timer,) = decision.timers
    assert isinstance(timer, SetTimer)
    assert timer.due_at == request.deadline
    assert runs.start(brief(), NOW, ORIGIN) == decision


def test_a_definition_that_cannot_be_run_fails_the_task() -> None:
    """It was accepted, so it is not lost: it ends, and says where it is wrong."""
    decision = runs.start(
        brief({**plain("clerk", "x"), "do": [{"a": {"wait": {}}}]}), NOW, ORIGIN
    )
    assert types(decision) == ["task.started", "task.failed"]
    assert decision.run.status is TaskStatus.FAILED
    assert decision.run.problem is not None
    assert decision.run.problem.instance == "/do/0/a"
    assert decision.owed == ()
    assert decision.timers == ()


def test_the_output_of_a_step_is_the_input_of_the_next() -> None:
    """A sequence hands on what it made, and its last output is the task's."""
    submitted = brief(sequence("clerk", "auditor"))
    first = started(submitted)
    decision = runs.step_finished(
        first, plan(submitted), finish(first, output={"a": 1}), NOW
    )
    assert types(decision) == ["step.finished", "step.started"]
    request = decision.owed[0].message
    assert isinstance(request, StepRequested)
    assert (request.employee, request.input) == ("auditor", {"a": 1})
    assert request.step_id != first.active[0].step_id
    second = decision.run
    decision = runs.step_finished(
        second, plan(submitted), finish(second, output="done"), NOW
    )
    assert types(decision) == ["step.finished", "task.completed"]
    assert decision.run.status is TaskStatus.COMPLETED
    assert decision.run.finished_at == NOW
    assert decision.events[-1].data == {"output": "done"}


def test_a_failed_step_fails_the_task_and_points_at_it() -> None:
    """The task's problem is the step's, with its place in the definition."""
    run = started()
    decision = runs.step_finished(
        run, plan(brief()), finish(run, StepOutcome.FAILED), NOW
    )
    assert types(decision) == ["step.finished", "task.failed"]
    assert decision.run.problem is not None
    assert decision.run.problem.code is Code.TURN_LIMIT
    assert decision.run.problem.instance == "/do/0/work"


def test_a_step_that_stops_unasked_fails_the_task() -> None:
    """Nobody cancelled the task, so it does not end cancelled."""
    run = started()
    decision = runs.step_finished(
        run, plan(brief()), finish(run, StepOutcome.CANCELLED), NOW
    )
    assert decision.run.status is TaskStatus.FAILED
    assert decision.run.problem is not None
    assert decision.run.problem.code is Code.CANCELLED


def test_turns_enter_the_history_in_order() -> None:
    """A bell that comes early waits for its predecessor; a repeat is nothing."""
    run = started()
    early = runs.turn_finished(run, bell(run, 2), NOW)
    assert early.events == ()
    both = runs.turn_finished(early.run, bell(run, 1), NOW)
    assert numbers(both) == [1, 2]
    again = runs.turn_finished(both.run, bell(run, 2), NOW)
    assert again.run == both.run
    assert again.events == ()


def test_the_snapshot_holds_few_early_turns() -> None:
    """However many bells overtake the first, the finish brings what is dropped."""
    run = started()
    state = run
    for number in range(20, 1, -1):
        state = runs.turn_finished(state, bell(run, number), NOW).run
    early = [record.turn for record in state.active[0].early]
    assert early == list(range(2, 2 + runs.EARLY_TURNS_MAX))
    done = runs.step_finished(state, plan(brief()), finish(run, turns=20), NOW)
    assert numbers(done) == list(range(1, 21))


def test_the_finish_brings_lost_turns_and_all_attempts() -> None:
    """Turns, tool calls, attempts and tokens add up whatever bells were lost."""
    run = started()
    state = runs.turn_finished(run, bell(run, 1), NOW).run
    decision = runs.step_finished(state, plan(brief()), finish(run, turns=3), NOW)
    assert numbers(decision) == [2, 3]
    after = decision.run
    assert (after.turns, after.tool_calls, after.attempts) == (3, 3, 4)
    assert after.usage == TokenUsage(input_tokens=12)


def test_a_stale_worker_counts_for_nothing() -> None:
    """Once a higher fence was heard of, the lower one's messages are ignored."""
    run = started()
    state = runs.turn_finished(run, bell(run, 1, fence=3), NOW).run
    assert runs.turn_finished(state, bell(run, 2, fence=2), NOW) == Decision(state)
    stale = runs.step_finished(state, plan(brief()), finish(run, fence=2), NOW)
    assert stale == Decision(state)


def test_a_step_finishes_once() -> None:
    """A second finish, and a turn after the finish, change nothing."""
    run = started()
    done = runs.step_finished(run, plan(brief()), finish(run), NOW).run
    assert runs.step_finished(done, plan(brief()), finish(run), NOW) == Decision(done)
    assert runs.turn_finished(done, bell(run, 1), NOW) == Decision(done)


def test_a_cancel_reaches_the_worker_and_wins() -> None:
    """A completion that comes while cancelling ends the step, not the task well."""
    run = started()
    asked = runs.cancel(run, "no longer needed", NOW)
    assert isinstance(asked, Decision)
    assert types(asked) == ["task.cancel-requested"]
    assert asked.run.status is TaskStatus.CANCELLING
    message = asked.owed[0].message
    assert isinstance(message, CancelStep)
    assert message.reason == "no longer needed"
    assert runs.cancel(asked.run, None, NOW) == Decision(asked.run)
    ended = runs.step_finished(
        asked.run, plan(brief()), finish(run, output="late", turns=1), NOW
    )
    assert types(ended) == ["turn.finished", "step.finished", "task.cancelled"]
    assert ended.run.status is TaskStatus.CANCELLED
    assert runs.cancel(ended.run, None, NOW) == Decision(ended.run)


def test_an_ended_task_cannot_be_cancelled() -> None:
    """Cancelling what completed or failed is a conflict, not a success."""
    run = started()
    done = runs.step_finished(run, plan(brief()), finish(run), NOW).run
    refusal = runs.cancel(done, None, NOW)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.CONFLICT


def test_a_passed_deadline_fails_the_step_and_stops_its_worker() -> None:
    """The task ends though its worker never answers; a second ring is nothing."""
    run = started()
    decision = runs.deadline_passed(run, run.active[0].step_id, NOW)
    assert types(decision) == ["step.finished", "task.failed"]
    assert decision.run.problem is not None
    assert decision.run.problem.code is Code.DEADLINE
    assert isinstance(decision.owed[0].message, CancelStep)
    again = runs.deadline_passed(decision.run, run.active[0].step_id, NOW)
    assert again == Decision(decision.run)


def test_what_a_late_step_consumed_is_counted_once() -> None:
    """A step that time ended still tells its vendor calls, and no event comes of it."""
    run = started()
    state = runs.turn_finished(run, bell(run, 1), NOW).run
    state = runs.turn_finished(state, bell(run, 3), NOW).run
    ended = runs.deadline_passed(state, run.active[0].step_id, NOW).run
    assert (ended.attempts, ended.turns) == (2, 2)
    word = finish(run, StepOutcome.CANCELLED, turns=4)
    late = runs.step_finished(ended, plan(brief()), word, NOW)
    assert (late.events, late.owed, late.timers) == ((), (), ())
    assert late.run.attempts == 5
    assert late.run.usage == TokenUsage(input_tokens=15)
    assert (late.run.status, late.run.seq) == (ended.status, ended.seq)
    assert late.run.finished_at == ended.finished_at
    again = runs.step_finished(late.run, plan(brief()), word, NOW)
    assert again == Decision(late.run)
    stale = finish(run, StepOutcome.CANCELLED, fence=0)
    assert runs.step_finished(ended, plan(brief()), stale, NOW) == Decision(ended)


def test_a_deadline_ends_a_cancel_that_nobody_answers() -> None:
    """The worker is told once, and the task still ends cancelled."""
    run = started()
    asked = runs.cancel(run, None, NOW)
    assert isinstance(asked, Decision)
    decision = runs.deadline_passed(asked.run, run.active[0].step_id, NOW)
    assert decision.run.status is TaskStatus.CANCELLED
    assert decision.owed == ()


def test_an_ended_step_needs_no_timer() -> None:
    """Finishing cancels the deadline that starting set."""
    opened = runs.start(brief(), NOW, ORIGIN)
    run = opened.run
    done = runs.step_finished(run, plan(brief()), finish(run), NOW)
    (timer,) = opened.timers
    assert done.timers == (CancelTimer(timer.timer_id),)


def test_the_view_is_folded_from_the_history() -> None:
    """What a manager sees is what happened."""
    opened = runs.start(brief(), NOW, ORIGIN)
    run = opened.run
    done = runs.step_finished(
        run, plan(brief()), finish(run, output={"a": 1}, turns=2), NOW
    )
    shown = view(done.run, brief(), (*opened.events, *done.events))
    assert shown.output == {"a": 1}
    assert shown.input == {"number": 7}
    assert shown.trace_id == ORIGIN.trace_id
    assert shown.last_seq == 6
    (step,) = shown.steps
    assert (step.pointer, step.status, step.employee_version) == (
        "/do/0/work",
        "completed",
        4,
    )
    assert [record.turn for record in step.turns] == [1, 2]
    assert step.finished_at == NOW


def test_the_bell_carries_a_small_output_and_the_trigger() -> None:
    """Who published an event learns the result; a large one has to be asked for."""
    run = replace(started(), triggered_by="invoices:e-1")
    small = change(
        runs.step_finished(run, plan(brief()), finish(run, output="ok"), NOW)
    )
    assert small is not None
    assert (small.output, small.triggered_by) == ("ok", "invoices:e-1")
    assert small.type is TaskEventType.TASK_COMPLETED
    large = change(
        runs.step_finished(run, plan(brief()), finish(run, output="x" * 70_000), NOW)
    )
    assert large is not None
    assert large.output is None
    assert change(Decision(run)) is None
