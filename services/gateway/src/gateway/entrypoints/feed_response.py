"""
A feed as an HTTP response, bounded in number and gone with its reader.

No generator: one that is suspended when its reader leaves is closed some time
later, by whoever collects it. Here the feed is a task of the response's own group.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contracts.problems import Code, problem
from gateway.entrypoints.problems import respond
from gateway.handlers.feeds import Show

MEDIA_TYPE: Final = "text/event-stream"
RETRY_AFTER_S: Final = 5.0
HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


def slots_of(request: Request) -> asyncio.Semaphore:
    """Return the slots that all feeds of this process share."""
    found = request.app.state.feed_slots
    assert isinstance(found, asyncio.Semaphore)  # noqa: S101 -- set by create_app
    return found


FeedSlots = Annotated[asyncio.Semaphore, Depends(slots_of)]


class FeedResponse(Response):
    """
    Server-sent events until the feed ends or its reader leaves.

    Args:
        follow: Shows the feed; returns at its end.
        slots: One for each feed that may be open; when none is free, 503.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, follow: Callable[[Show], Awaitable[None]], slots: asyncio.Semaphore
    ) -> None:
        super().__init__(None, 200, HEADERS)
        del self.headers["content-length"]
        self._follow = follow
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a feed never waits for a slot, its reader should go elsewhere."""
        if self._slots.locked():
            detail = "as many feeds are open as this gateway takes: try again"
            refusal = problem(Code.OVERLOADED, detail, instance=scope["path"])
            await respond(refusal, scope, RETRY_AFTER_S)(scope, receive, send)
            return
        async with self._slots:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            await self._feed_while_read(receive, send)

    async def _feed_while_read(self, receive: Receive, send: Send) -> None:
        async def show(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        async def feed() -> None:
            await self._follow(show)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(feed())
            leaving = group.create_task(_until_gone(receive))
            await asyncio.wait({feeding, leaving}, return_when=asyncio.FIRST_COMPLETED)
            feeding.cancel()
            leaving.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
