"""Feeds over a real HTTP server: order, resume, end, and nothing left behind."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import pytest
from gateway_world import (
    Headers,
    ScriptedBus,
    history_of,
    raising,
    tenant_headers,
    view_of,
)

from contracts import subjects
from contracts.message import Message
from contracts.problems import Code
from contracts.tasks import ListTaskEvents, LiveDelta, TaskStatus
from faults import TransientFault
from gateway.app import Composed
from messaging.refusals import refuse
from telemetry.face import HttpServer
from testkit.until import until

EVENTS = "/v1/tasks/task_1/events"


@pytest.fixture
async def served(gateway: Composed) -> AsyncGenerator[httpx.AsyncClient]:
    """Return a client of a real server, so that leaving is seen."""
    async with (
        HttpServer(gateway.app, "127.0.0.1", 0) as server,
        httpx.AsyncClient(base_url=server.url, timeout=10) as opened,
    ):
        yield opened


@pytest.fixture
async def reader(served: httpx.AsyncClient, bus: ScriptedBus) -> Headers:
    """Return the headers of a tenant whose task runs and has three events."""
    bus.answers["task-get"] = lambda request: view_of(request, last_seq=3)
    bus.answers["task-events"] = history_of(3, TaskStatus.RUNNING)
    return await tenant_headers(served, "acme")


def ids_in(text: str) -> list[int]:
    """Return the ids of server-sent events."""
    lines = text.splitlines()
    return [int(line.removeprefix("id: ")) for line in lines if line[:4] == "id: "]


@pytest.mark.parametrize("after", [0, 1, 250, 403])
async def test_a_feed_goes_on_where_its_reader_was(
    served: httpx.AsyncClient, reader: Headers, bus: ScriptedBus, after: int
) -> None:
    """Over many pages: every event after the last one seen, once, then the end."""
    bus.answers["task-get"] = lambda request: view_of(request, last_seq=403)
    bus.answers["task-events"] = history_of(403, TaskStatus.COMPLETED)
    headers = reader | {"last-event-id": str(after)}
    answer = await served.get(EVENTS, headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ids_in(answer.text) == list(range(after + 1, 404))
    assert answer.text.endswith("event: end\ndata: {}\n\n")


@pytest.mark.parametrize("last", ["4", "9" * 15, "9" * 16, "²", "-1", "x", ""])
async def test_a_place_that_is_none_is_refused(
    served: httpx.AsyncClient, reader: Headers, last: str
) -> None:
    """Beyond the history a feed would swallow what comes; 400 says so."""
    headers = httpx.Headers(reader | {"last-event-id": last}, encoding="latin-1")
    answer = await served.get(EVENTS, headers=headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_reader_that_leaves_leaves_nothing(
    served: httpx.AsyncClient, reader: Headers, bus: ScriptedBus
) -> None:
    """No task, no subscription and no slot outlives its reader."""
    # More readers than slots, one after the other.
    for _ in range(4):
        async with served.stream("GET", EVENTS, headers=reader) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line == "id: 3":
                    break
            assert bus.watched == 2

        async def is_gone() -> bool:
            return bus.watched == 0

        await until(is_gone, 5, "the feed's subscriptions to end")
    gc.collect()
    names = {str(task.get_coro()) for task in asyncio.all_tasks()}
    assert not {name for name in names if "feed" in name or "_pump" in name}


async def test_one_feed_too_many_is_503_at_once(
    served: httpx.AsyncClient, reader: Headers, bus: ScriptedBus
) -> None:
    """A feed does not wait for another's end; a slot that is free again is taken."""
    async with (
        served.stream("GET", EVENTS, headers=reader),
        served.stream("GET", EVENTS, headers=reader),
    ):

        async def is_full() -> bool:
            return bus.watched == 4

        await until(is_full, 5, "two feeds to be open")
        refused = await served.get(EVENTS, headers=reader)
        assert refused.status_code == 503
        assert refused.json()["code"] == "overloaded"
        assert refused.headers["retry-after"]


async def test_live_text_comes_between_events(
    served: httpx.AsyncClient, reader: Headers, bus: ScriptedBus
) -> None:
    """Deltas carry no id, so a resume never counts them."""
    async with served.stream("GET", EVENTS, headers=reader) as answer:
        lines = answer.aiter_lines()
        while await anext(lines) != "id: 3":
            pass
        delta = LiveDelta(
            task_id="task_1", step_id="s", fence=1, turn=1, offset=0, text="Hel"
        )
        await bus.announce(subjects.live("acme", "task_1"), delta)
        seen = [line async for line in _up_to(lines, "event: delta")]
    assert not [line for line in seen if line.startswith("id:")]


async def _up_to(lines: AsyncIterator[str], last: str) -> AsyncGenerator[str]:
    async for line in lines:
        yield line
        if line == last:
            return


async def test_a_history_that_cannot_be_told_ends_with_an_error(
    served: httpx.AsyncClient, reader: Headers, bus: ScriptedBus
) -> None:
    """A feed that breaks says why, and never says ``end``."""
    bus.answers["task-events"] = raising(refuse(Code.NOT_FOUND, "it is gone"))
    answer = await served.get(EVENTS, headers=reader)
    assert "event: error" in answer.text
    assert "it is gone" in answer.text
    assert "event: end" not in answer.text


async def test_a_history_shorter_than_it_says_is_not_asked_for_ever(
    served: httpx.AsyncClient, reader: Headers, bus: ScriptedBus
) -> None:
    """A page that brings nothing new is followed by a wait, not by the same page."""

    def short(request: ListTaskEvents) -> Message:
        page = history_of(3, TaskStatus.RUNNING)(request)
        return page.model_copy(update={"last_seq": 9})

    bus.answers["task-events"] = short
    async with served.stream("GET", EVENTS, headers=reader) as answer:
        async for line in answer.aiter_lines():
            if line == ": keep-alive":
                break
    assert bus.count("task-events") <= 4


async def test_an_owner_that_comes_back_goes_on(
    served: httpx.AsyncClient, reader: Headers, bus: ScriptedBus
) -> None:
    """A fault on the way is waited out within the open feed."""
    asked: list[int] = []

    def flaky(request: ListTaskEvents) -> Message:
        asked.append(1)
        if len(asked) == 1:
            raise TransientFault("nobody listens")
        return history_of(3, TaskStatus.COMPLETED)(request)

    bus.answers["task-events"] = flaky
    answer = await served.get(EVENTS, headers=reader)
    assert ids_in(answer.text) == [1, 2, 3]
