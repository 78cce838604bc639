"""A task's feed: history by sequence, live text in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

from contracts import subjects
from contracts.problems import Code, problem
from contracts.tasks import (
    ListTaskEvents,
    LiveDelta,
    TaskChanged,
    TaskEventPage,
    TaskStatus,
)
from faults import TransientFault
from gateway.domain.feed import END, KEEP_ALIVE, Feed, encode_problem
from gateway.ports import Deps
from messaging.refusals import Refused

QUEUE_MAX: Final = 1024
POLL_S: Final = 5.0
PAGE: Final = 200
FAILURES_MAX: Final = 30

Item = TaskChanged | LiveDelta


async def feed_task(
    tenant: str, task_id: str, after: int, deps: Deps
) -> AsyncIterator[bytes]:
    """
    Yield server-sent events until the task ends.

    A bell only says "look": what is shown comes from the history, so a lost
    bell costs at most one poll. The feed's own buffer is bounded; what does not
    fit is dropped and the next poll or snapshot makes up for it.
    """
    queue: asyncio.Queue[Item] = asyncio.Queue(QUEUE_MAX)
    feed = Feed(after)
    async with AsyncExitStack() as stack:
        bells = await stack.enter_async_context(
            deps.peers.watch(subjects.task_changed(tenant, task_id), TaskChanged)
        )
        deltas = await stack.enter_async_context(
            deps.peers.watch(subjects.live(tenant, task_id), LiveDelta)
        )
        pumps = [
            asyncio.create_task(_pump(bells, queue)),
            asyncio.create_task(_pump(deltas, queue)),
        ]
        try:
            async for chunk in _show(tenant, task_id, feed, queue, deps):
                yield chunk
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


async def _show(
    tenant: str, task_id: str, feed: Feed, queue: asyncio.Queue[Item], deps: Deps
) -> AsyncIterator[bytes]:
    failures, last_fault = 0, TransientFault("")
    while failures <= FAILURES_MAX:
        try:
            page = await _history(tenant, task_id, feed.last_seq, deps)
        except TransientFault as fault:
            failures += 1
            last_fault = fault
        else:
            failures = 0
            for event in page.events:
                if (chunk := feed.accept_event(event)) is not None:
                    yield chunk
            if feed.last_seq < page.last_seq:
                continue
            if page.status.is_end:
                yield END
                return
        async for chunk in _until_bell(feed, queue):
            yield chunk
    yield encode_problem(_unavailable(last_fault))


async def _until_bell(feed: Feed, queue: asyncio.Queue[Item]) -> AsyncIterator[bytes]:
    """Show live text until a bell rings or it is time to look by itself."""
    while isinstance(item := await _next(queue), LiveDelta):
        if (chunk := feed.accept_delta(item)) is not None:
            yield chunk
    if item is None:
        # Keeps proxies from closing a quiet connection.
        yield KEEP_ALIVE


async def _history(tenant: str, task_id: str, after: int, deps: Deps) -> TaskEventPage:
    request = ListTaskEvents(tenant=tenant, task_id=task_id, after=after, limit=PAGE)
    try:
        return await deps.peers.request(
            subjects.TASK_EVENTS.to(tenant),
            request,
            TaskEventPage,
            timeout_s=deps.peer_timeout_s,
        )
    except Refused as refused:
        pending = await deps.store.read(lambda work: work.submission(tenant, task_id))
        if pending is None or refused.envelope.problem.code is not Code.NOT_FOUND:
            raise
        # Accepted here, not yet known there: an empty history for now.
        return TaskEventPage(events=(), status=TaskStatus.SUBMITTED, last_seq=0)


async def _next(queue: asyncio.Queue[Item]) -> Item | None:
    try:
        async with asyncio.timeout(POLL_S):
            return await queue.get()
    except TimeoutError:
        return None


async def _pump(source: AsyncIterator[Item], queue: asyncio.Queue[Item]) -> None:
    async for item in source:
        if not queue.full():
            queue.put_nowait(item)


def _unavailable(fault: TransientFault) -> dict[str, object]:
    detail = f"{fault.detail}; reconnect with Last-Event-ID to go on"
    return problem(Code.UNAVAILABLE, detail).model_dump(mode="json", exclude_none=True)
