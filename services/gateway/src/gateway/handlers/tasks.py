"""Tasks: accept, tell, list, cancel, wait."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import assert_never

import telemetry
from contracts import subjects
from contracts.ledger import GetTaskCost, TaskCosts
from contracts.money import usd
from contracts.problems import Code
from contracts.tasks import (
    CancelTask,
    CostView,
    GetTask,
    ListTasks,
    TaskChanged,
    TaskPage,
    TaskView,
)
from faults import TransientFault
from gateway.domain.admission import (
    Admitted,
    Refused,
    Repeated,
    TaskRequest,
    admit,
    task_id_for,
)
from gateway.domain.keys import Principal
from gateway.ports import Deps, Work
from messaging.refusals import Refused as RefusedByPeer
from messaging.refusals import refuse

log = telemetry.get_logger()

HANDOVER_LIMIT_S = 10.0
HANDOVER_PAUSE_S = 0.1
WAIT_POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """A task that is on disk."""

    task_id: str
    is_new: bool


async def submit_task(
    request: TaskRequest,
    principal: Principal,
    idempotency_key: str | None,
    deps: Deps,
) -> Accepted:
    """
    Take a task: it and the message that it owes are on disk on return.

    Raises:
        messaging.refusals.Refused: The key was used for another request.
    """
    tenant = require_tenant(principal)
    task_id = (
        deps.ids.new("task")
        if idempotency_key is None
        else task_id_for(tenant, idempotency_key)
    )
    now = deps.clock.now()

    def transaction(work: Work) -> Admitted | Repeated | Refused:
        earlier = work.submission(tenant, task_id)
        admission = admit(request, principal, task_id, earlier, now)
        if isinstance(admission, Admitted):
            work.save_submission(admission.submission)
            work.owe([admission.owed])
        return admission

    with telemetry.span("submit task", {"task.id": task_id, "tenant": tenant}):
        admission = await deps.store.run(transaction)
    match admission:
        case Admitted():
            log.info("task_accepted", task_id=task_id, tenant=tenant)
            return Accepted(task_id, is_new=True)
        case Repeated():
            return Accepted(task_id, is_new=False)
        case Refused(problem):
            raise refuse(problem.code, problem.detail)
        case _:
            assert_never(admission)


async def get_task(tenant: str, task_id: str, deps: Deps) -> TaskView:
    """
    Return a task with its cost, from its owner or, until it has it, from here.

    Raises:
        messaging.refusals.Refused: ``not-found``.
        TransientFault: The owner does not answer.
    """
    pending = await deps.store.read(lambda work: work.submission(tenant, task_id))
    try:
        view = await deps.peers.request(
            subjects.TASK_GET.to(tenant),
            GetTask(tenant=tenant, task_id=task_id),
            TaskView,
            timeout_s=deps.peer_timeout_s,
        )
    except RefusedByPeer as refused:
        if pending is None or refused.envelope.problem.code is not Code.NOT_FOUND:
            raise
        return pending.view
    return (await _with_costs(tenant, (view,), deps))[0]


async def list_tasks(request: ListTasks, deps: Deps) -> TaskPage:
    """Return a page of tasks with their costs, newest first."""
    page = await deps.peers.request(
        subjects.TASK_LIST.to(request.tenant),
        request,
        TaskPage,
        timeout_s=deps.peer_timeout_s,
    )
    tasks = await _with_costs(request.tenant, page.tasks, deps)
    return page.model_copy(update={"tasks": tasks})


async def cancel_task(
    tenant: str, task_id: str, reason: str | None, deps: Deps
) -> TaskView:
    """
    Ask for a task's end; waits for a task that is just being handed over.

    Raises:
        messaging.refusals.Refused: ``not-found``, or ``conflict`` when it ended.
    """
    pending = await deps.store.read(lambda work: work.submission(tenant, task_id))
    request = CancelTask(tenant=tenant, task_id=task_id, reason=reason)
    limit = deps.clock.monotonic() + HANDOVER_LIMIT_S
    while True:
        try:
            return await deps.peers.request(
                subjects.TASK_CANCEL.to(tenant),
                request,
                TaskView,
                timeout_s=deps.peer_timeout_s,
            )
        except RefusedByPeer as refused:
            is_unknown = refused.envelope.problem.code is Code.NOT_FOUND
            if pending is None or not is_unknown or deps.clock.monotonic() > limit:
                raise
        await deps.clock.sleep(HANDOVER_PAUSE_S)


async def await_end(tenant: str, task_id: str, limit_s: float, deps: Deps) -> TaskView:
    """Return the task when it ends, or as it stands when the time is up."""
    until = deps.clock.monotonic() + limit_s
    subject = subjects.task_changed(tenant, task_id)
    async with deps.peers.watch(subject, TaskChanged) as bells:
        while True:
            view = await get_task(tenant, task_id, deps)
            left = until - deps.clock.monotonic()
            if view.status.is_end or left <= 0:
                return view
            await hear(bells, min(left, WAIT_POLL_S))


async def _with_costs(
    tenant: str, views: tuple[TaskView, ...], deps: Deps
) -> tuple[TaskView, ...]:
    if not views:
        return views
    try:
        answer = await deps.peers.request(
            subjects.TASK_COST.to(tenant),
            GetTaskCost(tenant=tenant, task_ids=tuple(v.task_id for v in views)),
            TaskCosts,
            timeout_s=deps.peer_timeout_s,
        )
    except TransientFault as fault:
        # A task can be told without its cost; the reader sees that it is absent.
        log.warning("task_cost_unavailable", detail=fault.detail)
        return views
    return tuple(
        view.model_copy(
            update={
                "cost": CostView(
                    pico_usd=cost.pico_usd,
                    usd=usd(cost.pico_usd),
                    attempts=cost.attempts,
                    provisional=not view.status.is_end or cost.attempts < view.attempts,
                )
            }
        )
        for view, cost in zip(views, answer.costs, strict=True)
    )


def require_tenant(principal: Principal) -> str:
    """Return the caller's tenant; an admin's key has none."""
    if principal.tenant is None:
        detail = "this is an admin key: use a tenant's key for tasks"
        raise refuse(Code.FORBIDDEN, detail)
    return principal.tenant


async def hear(bells: AsyncIterator[TaskChanged], limit_s: float) -> None:
    """Return when a bell rings or the time is up."""
    try:
        async with asyncio.timeout(limit_s):
            await anext(bells)
    except (TimeoutError, StopAsyncIteration):
        return


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
