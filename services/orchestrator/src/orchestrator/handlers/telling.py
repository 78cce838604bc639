"""What happens after a commit: metrics, a log line and the bell."""

from typing import Final

from contracts.tasks import TaskEventType
from orchestrator.domain.decision import Decision
from orchestrator.domain.view import change
from orchestrator.ports import Deps
from telemetry import get_logger, metrics

log: Final = get_logger()


async def tell(decision: Decision | None, deps: Deps) -> None:
    """Count, log and announce a committed decision; nothing happened, no word."""
    changed = None if decision is None else change(decision)
    if decision is None or changed is None:
        return
    run = decision.run
    for event in decision.events:
        if event.type is TaskEventType.STEP_FINISHED:
            metrics.steps_total.add(1, status=str(event.data["status"]))
        elif event.type is TaskEventType.TASK_STARTED:
            metrics.tasks_total.add(1, status="started")
            log.info("task_started", task_id=run.task_id, tenant=run.tenant)
    if run.finished_at is not None:
        duration_s = (run.finished_at - run.created_at).total_seconds()
        metrics.tasks_total.add(1, status=run.status)
        metrics.task_duration_seconds.record(max(duration_s, 0.0), status=run.status)
        log.info(
            "task_ended",
            task_id=run.task_id,
            tenant=run.tenant,
            status=run.status.value,
            code=None if run.problem is None else run.problem.code.value,
            duration_s=duration_s,
        )
    await deps.bell.ring(changed)
