"""What moves runs: submissions, turns, finished steps, cancels and deadlines."""

from datetime import datetime, timedelta
from functools import partial
from typing import Final

from contracts.problems import Code
from contracts.steps import StepFinished
from contracts.tasks import CancelTask, SubmitTask
from contracts.turns import TurnFinished
from faults import PermanentFault, TransientFault
from messaging.bus import Delivery
from messaging.refusals import refuse
from orchestrator.domain import run as runs
from orchestrator.domain.decision import (
    CancelTimer,
    Decision,
    Refusal,
    SetTimer,
    StepDeadline,
)
from orchestrator.domain.definition import Definition
from orchestrator.domain.state import Run
from orchestrator.handlers.telling import tell
from orchestrator.ports import Deps, Work
from telemetry import get_logger, trace_id

OVERDUE_BATCH: Final = 50
OVERDUE_RETRY: Final = timedelta(seconds=30)
PRUNE_BATCH: Final = 50

log: Final = get_logger()


async def start_task(message: SubmitTask, delivery: Delivery, deps: Deps) -> None:
    """
    Open the task and owe its first step; a repeat changes nothing.

    Raises:
        PermanentFault: The id is another tenant's task.
    """
    now = deps.now()
    origin = runs.Origin(deps.step_deadline_s, trace_id=trace_id())

    def transaction(work: Work) -> Decision | None:
        if not work.admit(delivery.message_id):
            return None
        return open_run(work, message, runs.start(message, now, origin))

    await tell(await deps.store.run(transaction), deps)


def open_run(work: Work, brief: SubmitTask, decision: Decision) -> Decision | None:
    """Insert a run inside a transaction; None when it was opened before."""
    if work.create(decision, brief):
        return decision
    if work.find(brief.tenant, brief.task_id) is None:
        message = f"task {brief.task_id} exists, but is not {brief.tenant}'s"
        raise PermanentFault(message, code=Code.CONFLICT)
    return None


async def record_turn(message: TurnFinished, delivery: Delivery, deps: Deps) -> None:
    """Write a turn into its task's history."""
    now = deps.now()

    def transaction(work: Work) -> Decision | None:
        if not work.admit(delivery.message_id):
            return None
        run = _required(work, message.tenant, message.task_id)
        return _saved(work, run, runs.turn_finished(run, message, now))

    await tell(await deps.store.run(transaction), deps)


async def advance_task(message: StepFinished, delivery: Delivery, deps: Deps) -> None:
    """End a step; begin the next one or end the task."""
    now = deps.now()

    def transaction(work: Work) -> Decision | None:
        if not work.admit(delivery.message_id):
            return None
        run = _required(work, message.tenant, message.task_id)
        plan = _plan(work, run)
        return _saved(work, run, runs.step_finished(run, plan, message, now))

    await tell(await deps.store.run(transaction), deps)


async def cancel_task(request: CancelTask, deps: Deps) -> None:
    """
    Ask a task to stop; asking again changes nothing.

    Raises:
        Refused: ``not-found``, or ``conflict`` when it has ended otherwise.
    """
    now = deps.now()

    def transaction(work: Work) -> Decision | Refusal:
        run = work.load(request.tenant, request.task_id)
        if run is None:
            return unknown_task(request.task_id)
        decision = runs.cancel(run, request.reason, now)
        if isinstance(decision, Refusal):
            return decision
        return _saved(work, run, decision)

    outcome = await deps.store.run(transaction)
    if isinstance(outcome, Refusal):
        raise refuse(outcome.code, outcome.detail)
    await tell(outcome, deps)


async def fail_overdue(deps: Deps) -> int:
    """
    Fail steps whose deadline has passed; return how many deadlines were due.

    Each is a transaction of its own, which locks the run before the timer as every
    other does: a worker that finishes at its deadline waits, and is no deadlock.
    """
    overdue = await deps.store.read(lambda work: work.overdue(OVERDUE_BATCH))
    for due in overdue:
        try:
            await _ring(due, deps)
        # Supervised boundary: one run that cannot be decided about, perhaps of a
        # newer version, must neither stop the process nor hide the others' deadlines.
        except Exception as error:  # noqa: BLE001
            log.warning("deadline_postponed", task_id=due.task_id, error=repr(error))
            later = deps.now() + OVERDUE_RETRY
            await deps.store.run(partial(_postpone, due, later))
    return len(overdue)


async def _ring(due: StepDeadline, deps: Deps) -> None:
    now = deps.now()

    def transaction(work: Work) -> Decision | None:
        run = work.load(due.tenant, due.task_id)
        if run is None or run.step(due.step_id) is None:
            work.settle_timers((CancelTimer(due.timer_id),))
            return None
        return _saved(work, run, runs.deadline_passed(run, due.step_id, now))

    await tell(await deps.store.run(transaction), deps)


def _postpone(due: StepDeadline, until: datetime, work: Work) -> None:
    work.settle_timers((SetTimer(due.timer_id, until, due),))


async def prune(deps: Deps) -> int:
    """Forget one batch of what ended long ago; a full one may not be the last."""
    before = deps.now() - deps.keep
    return await deps.store.run(lambda work: work.prune(before, PRUNE_BATCH))


def unknown_task(task_id: str) -> Refusal:
    """Say that a tenant has no such task."""
    return Refusal(Code.NOT_FOUND, f"There is no task {task_id}.")


def _saved(work: Work, run: Run, decision: Decision) -> Decision:
    if decision.run != run:
        work.save(decision)
    return decision


def _required(work: Work, tenant: str, task_id: str) -> Run:
    run = work.load(tenant, task_id)
    if run is None:
        # Steps are only asked for by a committed run: its store was restored from
        # before. Someone must look; a replay works once the run is there again.
        message = f"{tenant} has no task {task_id}: was this store restored?"
        raise PermanentFault(message, code=Code.NOT_FOUND)
    return run


def _plan(work: Work, run: Run) -> runs.Plan:
    brief = work.brief(run.tenant, run.task_id)
    definition = None if brief is None else runs.definition_of(brief)
    if brief is None or not isinstance(definition, Definition):
        # It was readable when the run began, so a newer version began it.
        message = f"this version cannot read the definition of {run.task_id}"
        raise TransientFault(message)
    return runs.Plan(definition, brief)
