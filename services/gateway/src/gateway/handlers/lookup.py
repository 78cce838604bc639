"""Where a task is told from: its owner or, until it has it, the gateway's store."""

from contracts import subjects
from contracts.problems import Code
from contracts.tasks import GetTask, TaskView
from gateway.ports import Deps
from messaging.refusals import Refused, refuse


async def owners_view(tenant: str, task_id: str, deps: Deps) -> TaskView:
    """
    Return a task without its cost.

    Raises:
        messaging.refusals.Refused: ``not-found``.
        TransientFault: The owner does not answer.
    """
    try:
        return await deps.peers.request(
            subjects.TASK_GET.to(tenant),
            GetTask(tenant=tenant, task_id=task_id),
            TaskView,
            timeout_s=deps.peer_timeout_s,
        )
    except Refused as refused:
        if not await is_pending(refused, tenant, task_id, deps):
            raise
    return await pending_task(tenant, task_id, deps)


async def is_pending(refused: Refused, tenant: str, task_id: str, deps: Deps) -> bool:
    """Tell whether the owner refused a task that it only has not got yet."""
    if refused.envelope.problem.code is not Code.NOT_FOUND:
        return False
    found = await deps.store.read(lambda work: work.submission(tenant, task_id))
    return found is not None


async def pending_task(tenant: str, task_id: str, deps: Deps) -> TaskView:
    """
    Return a task as it was accepted here, asking nobody.

    Raises:
        messaging.refusals.Refused: ``not-found``.
    """
    pending = await deps.store.read(lambda work: work.submission(tenant, task_id))
    if pending is None:
        raise refuse(Code.NOT_FOUND, f"no task {task_id}")
    return pending.view
