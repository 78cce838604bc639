"""A task's feed: history by sequence, live text in between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from contracts import subjects
from contracts.problems import Code, Problem, problem
from contracts.tasks import (
    ListTaskEvents,
    LiveDelta,
    TaskChanged,
    TaskEventPage,
    TaskStatus,
)
from faults import Fault, PermanentFault
from gateway.domain.feed import END, KEEP_ALIVE, Feed, encode_problem
from gateway.handlers.lookup import is_pending, owners_view
from gateway.ports import Deps
from messaging.refusals import Refused, refuse

QUEUE_MAX: Final = 1024
POLL_S: Final = 5.0
PAGE: Final = 200
FAILURES_MAX: Final = 30

Item = TaskChanged | LiveDelta
Show = Callable[[bytes], Awaitable[None]]
"""Sends one server-sent event to the reader; waits while the reader is slow."""


@dataclass(frozen=True, slots=True)
class Following:
    """One reader of one task."""

    tenant: str
    task_id: str
    feed: Feed
    queue: asyncio.Queue[Item]
    show: Show


async def require_followable(tenant: str, task_id: str, after: int, deps: Deps) -> None:
    """
    Refuse a feed that could never show anything.

    Raises:
        messaging.refusals.Refused: ``not-found``, or ``invalid`` for a place beyond
            the history: whatever comes next would be taken for a repeat.
    """
    view = await owners_view(tenant, task_id, deps)
    if after > view.last_seq:
        detail = f"Last-Event-ID {after} is beyond this task's {view.last_seq} events"
        raise refuse(Code.INVALID, detail)


async def feed_task(
    tenant: str, task_id: str, after: int, show: Show, deps: Deps
) -> None:
    """
    Show a task's events until it ends; what this starts ends with it.

    A bell only says "look": what is shown comes from the history, so a lost
    bell costs at most one poll. The feed's own buffer is bounded; what does not
    fit is dropped and the next poll or snapshot makes up for it.
    """
    queue: asyncio.Queue[Item] = asyncio.Queue(QUEUE_MAX)
    reader = Following(tenant, task_id, Feed(after), queue, show)
    changed = subjects.task_changed(tenant, task_id)
    live = subjects.live(tenant, task_id)
    async with (
        deps.peers.watch(changed, TaskChanged) as bells,
        deps.peers.watch(live, LiveDelta) as deltas,
        asyncio.TaskGroup() as group,
    ):
        pumps = [
            group.create_task(_pump(bells, queue)),
            group.create_task(_pump(deltas, queue)),
        ]
        await _follow(reader, deps)
        for pump in pumps:
            pump.cancel()


async def _follow(reader: Following, deps: Deps) -> None:
    failures = 0
    while True:
        try:
            page = await _history(reader, deps)
        except (Fault, Refused) as error:
            failures += 1
            if not _may_pass(error) or failures > FAILURES_MAX:
                await reader.show(encode_problem(_explain(error)))
                return
        else:
            failures = 0
            has_grown = await _show_events(reader, page)
            if reader.feed.last_seq < page.last_seq:
                if has_grown:
                    continue
            elif page.status.is_end:
                await reader.show(END)
                return
        await _show_until_bell(reader, deps)


async def _show_events(reader: Following, page: TaskEventPage) -> bool:
    """Show what is new; tell whether anything was."""
    has_grown = False
    for event in page.events:
        if (chunk := reader.feed.accept_event(event)) is not None:
            has_grown = True
            await reader.show(chunk)
    return has_grown


async def _show_until_bell(reader: Following, deps: Deps) -> None:
    """Show live text until a bell rings or it is time to look by itself."""
    until = deps.clock.monotonic() + POLL_S
    has_spoken = False
    while (left := until - deps.clock.monotonic()) > 0:
        item = await _next(reader.queue, left)
        match item:
            case LiveDelta():
                if (chunk := reader.feed.accept_delta(item)) is not None:
                    has_spoken = True
                    await reader.show(chunk)
            case TaskChanged():
                return
            case None:
                break
    if not has_spoken:
        # Keeps proxies from closing a quiet connection.
        await reader.show(KEEP_ALIVE)


async def _history(reader: Following, deps: Deps) -> TaskEventPage:
    request = ListTaskEvents(
        tenant=reader.tenant,
        task_id=reader.task_id,
        after=reader.feed.last_seq,
        limit=PAGE,
    )
    try:
        return await deps.peers.request(
            subjects.TASK_EVENTS.to(reader.tenant),
            request,
            TaskEventPage,
            timeout_s=deps.peer_timeout_s,
        )
    except Refused as refused:
        if not await is_pending(refused, reader.tenant, reader.task_id, deps):
            raise
        # Accepted here, not yet known there: an empty history for now.
        return TaskEventPage(events=(), status=TaskStatus.SUBMITTED, last_seq=0)


async def _next(queue: asyncio.Queue[Item], limit_s: float) -> Item | None:
    try:
        async with asyncio.timeout(limit_s):
            return await queue.get()
    except TimeoutError:
        return None


async def _pump(source: AsyncIterator[Item], queue: asyncio.Queue[Item]) -> None:
    async for item in source:
        if not queue.full():
            queue.put_nowait(item)


def _may_pass(error: Fault | Refused) -> bool:
    if isinstance(error, Refused):
        return error.envelope.retryable
    return not isinstance(error, PermanentFault)


def _explain(error: Fault | Refused) -> Problem:
    if isinstance(error, Refused):
        return error.envelope.problem
    detail = f"{error.detail}; reconnect with Last-Event-ID to go on"
    return problem(Code.UNAVAILABLE, detail)
