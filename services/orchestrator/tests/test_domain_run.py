from datetime import timedelta

from run_builders import (
    NOW,
    ORIGIN,
    bell,
    brief,
    finish,
    numbers,
    plan,
    sequence,
    started,
    types,
)

from contracts import subjects
from contracts.problems import Code
from contracts.steps import CancelStep, StepOutcome, StepRequested
from contracts.tasks import TaskFile, TaskStatus
from contracts.usage import TokenUsage
from orchestrator.domain import run as runs
from orchestrator.domain.decision import CancelTimer, Decision, Refusal, SetTimer
from orchestrator.domain.definition import plain


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


def test_a_step_that_no_message_holds_fails_the_task() -> None:
    """What cannot be sent is not owed for ever: the task ends and says why."""
    large = tuple(TaskFile(name=f"{n}.txt", content="x" * 200_000) for n in range(5))
    submitted = brief().model_copy(update={"files": large})
    decision = runs.start(submitted, NOW, ORIGIN)
    assert (decision.owed, decision.timers) == ((), ())
    assert types(decision) == ["task.started", "task.failed"]
    assert decision.run.problem is not None
    assert decision.run.problem.code is Code.TOO_LARGE
    submitted = brief(sequence("clerk", "auditor"))
    run = started(submitted)
    done = finish(run, output="x" * 950_000)
    decision = runs.step_finished(run, plan(submitted), done, NOW)
    assert types(decision) == ["step.finished", "task.failed"]
    assert decision.run.active == ()


def test_a_problem_is_cut_where_it_comes_in() -> None:
    """What a worker says is bounded: snapshots, lists and bells carry it."""
    run = started()
    word = finish(run, StepOutcome.FAILED)
    assert word.problem is not None
    long = word.problem.model_copy(update={"detail": "x" * 100_000})
    word = word.model_copy(update={"problem": long})
    ended = runs.step_finished(run, plan(brief()), word, NOW).run
    assert ended.problem is not None
    assert len(ended.problem.detail) == runs.DETAIL_CHARS_MAX
