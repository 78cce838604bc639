"""What others see of a run: its view, folded from the history, and its bell."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter

from contracts.message import Json
from contracts.problems import Problem
from contracts.tasks import (
    StepStatus,
    StepView,
    SubmitTask,
    TaskChanged,
    TaskEvent,
    TaskEventType,
    TaskView,
)
from contracts.turns import TurnRecord
from orchestrator.domain.decision import Decision
from orchestrator.domain.state import Run

BELL_OUTPUT_BYTES_MAX: Final = 65_536
VIEW_BYTES_MAX: Final = 950_000
_JSON: Final[TypeAdapter[Json]] = TypeAdapter(Json)


@dataclass
class _Story:
    """The history as far as it was read."""

    steps: dict[str, StepView] = field(default_factory=dict[str, StepView])
    turns: dict[str, list[TurnRecord]] = field(
        default_factory=dict[str, list[TurnRecord]]
    )
    output: Json = None


def view(run: Run, brief: SubmitTask | None, history: Iterable[TaskEvent]) -> TaskView:
    """
    Return the task as its owner tells it.

    Args:
        run: The snapshot.
        brief: What was handed in; None leaves the input out, as listings do.
        history: Events in order; none for listings. Turns may be left out.
    """
    story = _Story()
    for event in history:
        _read(story, event)
    return TaskView(
        task_id=run.task_id,
        tenant=run.tenant,
        status=run.status,
        employee=run.employee,
        goal=run.goal,
        input=None if brief is None else brief.input,
        output=story.output,
        problem=run.problem,
        steps=tuple(
            step.model_copy(update={"turns": tuple(story.turns.get(step_id, ()))})
            for step_id, step in story.steps.items()
        ),
        usage=run.usage,
        attempts=run.attempts,
        turns=run.turns,
        tool_calls=run.tool_calls,
        triggered_by=run.triggered_by,
        trace_id=run.trace_id,
        last_seq=run.seq,
        created_at=run.created_at,
        finished_at=run.finished_at,
    )


def fitting(whole: TaskView) -> TaskView:
    """Leave out what a reply cannot hold: first what is told elsewhere too."""
    bare = tuple(step.model_copy(update={"output": None}) for step in whole.steps)
    silent = tuple(step.model_copy(update={"turns": ()}) for step in bare)
    shown = whole
    for update in ({"steps": bare}, {"steps": silent}, {"input": None}, {"goal": None}):
        if len(shown.encode()) <= VIEW_BYTES_MAX:
            break
        shown = shown.model_copy(update=update)
    return shown


def change(decision: Decision) -> TaskChanged | None:
    """Return the bell to ring once the decision is committed; None for silence."""
    if not decision.events:
        return None
    run, newest = decision.run, decision.events[-1]
    output = newest.data.get("output") if run.status.is_end else None
    if output is not None and len(_JSON.dump_json(output)) >= BELL_OUTPUT_BYTES_MAX:
        output = None
    return TaskChanged(
        task_id=run.task_id,
        tenant=run.tenant,
        status=run.status,
        seq=newest.seq,
        type=newest.type,
        at=newest.at,
        triggered_by=run.triggered_by,
        output=output,
        problem=run.problem,
    )


def _read(story: _Story, event: TaskEvent) -> None:
    data = event.data
    match event.type:
        case TaskEventType.STEP_STARTED:
            step_id = str(data["step_id"])
            story.steps[step_id] = StepView(
                step_id=step_id,
                pointer=str(data["pointer"]),
                employee=str(data["employee"]),
                status=StepStatus.RUNNING,
                started_at=event.at,
            )
        case TaskEventType.TURN_FINISHED:
            turn = TurnRecord.model_validate(data["turn"])
            story.turns.setdefault(str(data["step_id"]), []).append(turn)
        case TaskEventType.STEP_FINISHED:
            _close(story, event)
        case TaskEventType.TASK_COMPLETED:
            story.output = data.get("output")
        case _:  # the others change nothing that is not in the snapshot
            pass


def _close(story: _Story, event: TaskEvent) -> None:
    data = event.data
    step_id = str(data["step_id"])
    reason = data.get("problem")
    story.steps[step_id] = story.steps[step_id].model_copy(
        update={
            "status": StepStatus(str(data["status"])),
            "output": data.get("output"),
            "problem": None if reason is None else Problem.model_validate(reason),
            "employee_version": data.get("employee_version"),
            "finished_at": event.at,
        }
    )
