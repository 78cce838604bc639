"""``/v1/tasks``: submit, tell, list, follow, cancel."""

from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Response, status
from pydantic import Field

from contracts.ids import EmployeeName, TaskId
from contracts.message import Document
from contracts.tasks import ListTasks, TaskPage, TaskStatus, TaskView
from gateway.domain.admission import TaskRequest
from gateway.entrypoints.feed_response import FeedResponse, FeedSlots
from gateway.entrypoints.identity import Caller, DepsOf, TenantOf
from gateway.handlers import feeds, lookup, tasks

Wait = Annotated[
    str | None,
    Query(
        pattern=r"^([1-9]|[1-5][0-9]|60)s$",
        description="Answer with the end state if it comes in time: `30s`, up to `60s`",
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="The same key with the same body is the same task",
    ),
]
LastEventId = Annotated[
    str | None,
    Header(pattern=r"^[0-9]{1,15}$", description="Go on after this event; its `id:`"),
]


class CancelRequest(Document):
    """The optional body of a cancel."""

    reason: str | None = Field(default=None, max_length=1000)
    """Why, for the history."""


routes = APIRouter(prefix="/v1/tasks", tags=["tasks"])


@routes.post("", status_code=status.HTTP_202_ACCEPTED)
async def submit_task(
    request: TaskRequest,
    response: Response,
    principal: Caller,
    deps: DepsOf,
    idempotency_key: IdempotencyKey = None,
    wait: Wait = None,
) -> TaskView:
    """Hand a goal to an employee; 202 means that it is on disk."""
    accepted = await tasks.submit_task(request, principal, idempotency_key, deps)
    task_id, tenant = accepted.task_id, tasks.require_tenant(principal)
    response.headers["location"] = f"/v1/tasks/{task_id}"
    if wait is not None:
        limit_s = float(wait.removesuffix("s"))
        view = await tasks.await_end(tenant, task_id, limit_s, deps)
        if view.status.is_end:
            response.status_code = status.HTTP_200_OK
        return view
    if accepted.is_new:
        return await lookup.pending_task(tenant, task_id, deps)
    return await tasks.current_view(tenant, task_id, deps)


@routes.get("")
async def list_tasks(
    tenant: TenantOf,
    deps: DepsOf,
    task_status: Annotated[TaskStatus | None, Query(alias="status")] = None,
    employee: EmployeeName | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> TaskPage:
    """List tasks, newest first."""
    request = ListTasks(
        tenant=tenant,
        status=task_status,
        employee=employee,
        limit=limit,
        cursor=cursor,
    )
    return await tasks.list_tasks(request, deps)


@routes.get("/{task_id}")
async def get_task(task_id: TaskId, tenant: TenantOf, deps: DepsOf) -> TaskView:
    """Return a task: status, output, steps, turns, tokens, cost."""
    return await tasks.get_task(tenant, task_id, deps)


@routes.get(
    "/{task_id}/events",
    status_code=status.HTTP_200_OK,
    response_class=FeedResponse,
)
async def follow_task(
    task_id: TaskId,
    tenant: TenantOf,
    deps: DepsOf,
    slots: FeedSlots,
    last_event_id: LastEventId = None,
) -> FeedResponse:
    """Follow a task as server-sent events until it ends."""
    after = int(last_event_id or 0)
    await feeds.require_followable(tenant, task_id, after, deps)

    async def follow(show: feeds.Show) -> None:
        await feeds.feed_task(tenant, task_id, after, show, deps)

    return FeedResponse(follow, slots)


@routes.post("/{task_id}/cancel", status_code=status.HTTP_202_ACCEPTED)
async def cancel_task(
    task_id: TaskId,
    tenant: TenantOf,
    deps: DepsOf,
    request: Annotated[CancelRequest | None, Body()] = None,
) -> TaskView:
    """Stop a task, the running model call included."""
    reason = request.reason if request is not None else None
    return await tasks.cancel_task(tenant, task_id, reason, deps)
