"""Tasks: accept, tell, list, cancel, wait."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import assert_never

import telemetry
from contracts import subjects
from contracts.ledger import GetTaskCost, TaskCost, TaskCosts
from contracts.money import usd
from contracts.problems import Code
from contracts.tasks import (
    CancelTask,
    CostView,
    ListTasks,
    TaskChanged,
    TaskPage,
    TaskView,
)
from determinism import Clock
from faults import Fault, TransientFault
from gateway.domain.admission import (
    Admitted,
    Refused,
    Repeated,
    TaskRequest,
    admit,
    task_id_for,
)
from gateway.domain.keys import Principal
from gateway.handlers.lookup import is_pending, owners_view, pending_task
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
    view = await owners_view(tenant, task_id, deps)
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
        TransientFault: The owner does not answer, or has not got the task yet.
    """
    request = CancelTask(tenant=tenant, task_id=task_id, reason=reason)
    limit = deps.clock.monotonic() + HANDOVER_LIMIT_S
    while deps.clock.monotonic() < limit:
        try:
            return await deps.peers.request(
                subjects.TASK_CANCEL.to(tenant),
                request,
                TaskView,
                timeout_s=deps.peer_timeout_s,
            )
        except RefusedByPeer as refused:
            if not await is_pending(refused, tenant, task_id, deps):
                raise
        await deps.clock.sleep(HANDOVER_PAUSE_S)
    raise TransientFault(f"{task_id} is accepted but not started: cancel it again")


async def await_end(tenant: str, task_id: str, limit_s: float, deps: Deps) -> TaskView:
    """
    Return an accepted task when it ends, or as it stands when the time is up.

    Once a task is accepted no failure of its owner may look like one of the task.
    """
    view = await pending_task(tenant, task_id, deps)
    subject = subjects.task_changed(tenant, task_id)
    try:
        async with (
            asyncio.timeout(limit_s),
            deps.peers.watch(subject, TaskChanged) as bells,
        ):
            while True:
                view = await _newer(view, deps)
                if view.status.is_end:
                    return view
                await hear_end(bells, WAIT_POLL_S, deps.clock)
    except (TimeoutError, TransientFault):
        return view


async def current_view(tenant: str, task_id: str, deps: Deps) -> TaskView:
    """Return an accepted task: from its owner if it answers, else from here."""
    return await _newer(await pending_task(tenant, task_id, deps), deps)


async def _newer(view: TaskView, deps: Deps) -> TaskView:
    try:
        return await get_task(view.tenant, view.task_id, deps)
    except (Fault, RefusedByPeer) as error:
        log.warning("task_owner_unavailable", why=str(error))
        return view


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
    except (Fault, RefusedByPeer) as error:
        # A task can be told without its cost; the reader sees that it is absent.
        log.warning("task_cost_unavailable", why=str(error))
        return views
    costs = {cost.task_id: cost for cost in answer.costs}
    return tuple(_with_cost(view, costs.get(view.task_id)) for view in views)


def _with_cost(view: TaskView, cost: TaskCost | None) -> TaskView:
    if cost is None:
        return view
    shown = CostView(
        pico_usd=cost.pico_usd,
        usd=usd(cost.pico_usd),
        attempts=cost.attempts,
        provisional=not view.status.is_end or cost.attempts < view.attempts,
    )
    return view.model_copy(update={"cost": shown})


def require_tenant(principal: Principal) -> str:
    """Return the caller's tenant; an admin's key has none."""
    if principal.tenant is None:
        detail = "this is an admin key: use a tenant's key for tasks"
        raise refuse(Code.FORBIDDEN, detail)
    return principal.tenant


async def hear_end(
    bells: AsyncIterator[TaskChanged], limit_s: float, clock: Clock
) -> None:
    """Return when a bell tells of an end or the time is up, never sooner."""
    try:
        async with asyncio.timeout(limit_s):
            async for bell in bells:
                if bell.status.is_end:
                    return
            # The bells are over; whoever asks again at once would spin.
            await clock.sleep(limit_s)
    except TimeoutError:
        return
