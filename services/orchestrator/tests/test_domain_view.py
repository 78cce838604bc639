"""What others see of a run: its view and its bell."""

from dataclasses import replace

from run_builders import (
    NOW,
    ORIGIN,
    brief,
    finish,
    plan,
    started,
)

from contracts.tasks import TaskEventType
from orchestrator.domain import run as runs
from orchestrator.domain.decision import Decision
from orchestrator.domain.view import change, fitting, view


def test_a_view_fits_into_a_reply_and_keeps_the_output() -> None:
    """What the history tells too is left out first, the task's own output never."""
    submitted = brief()
    opened = runs.start(submitted, NOW, ORIGIN)
    done = finish(opened.run, output="x" * 800_000, turns=2)
    ended = runs.step_finished(opened.run, plan(submitted), done, NOW)
    whole = view(ended.run, submitted, (*opened.events, *ended.events))
    shown = fitting(whole)
    assert shown.output == done.output
    assert shown.steps[0].output is None
    assert shown.steps[0].turns == whole.steps[0].turns
    assert len(shown.encode()) < 983_040
    small = view(opened.run, submitted, opened.events)
    assert fitting(small) == small


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
