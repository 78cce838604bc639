import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from testkit.platform import Platform
from testkit.platform_customer import Customer
from testkit.prove_scenarios import letter_task

TOKEN_MS = 5.0


@dataclass(frozen=True)
class Shown:
    """One server-sent event."""

    id: int | None
    event: str
    data: Any


async def feed(
    customer: Customer, task_id: str, last_event_id: int | None = None
) -> AsyncIterator[Shown]:
    """Follow a task as a browser's EventSource would."""
    headers = {} if last_event_id is None else {"last-event-id": str(last_event_id)}
    path = f"/v1/tasks/{task_id}/events"
    async with customer.http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                number = int(fields["id"]) if "id" in fields else None
                yield Shown(number, fields["event"], json.loads(fields["data"]))
                fields = {}


async def test_a_feed_shows_everything_in_order_and_ends(
    slow_vendor: Platform, customer: Customer
) -> None:
    """
    History comes without gaps from 1, live text while it is written, then the end.

    Deltas of a turn, put together, are the turn's text.
    """
    await slow_vendor.vendor.set_latency(50, TOKEN_MS)
    (task_id,) = await customer.submit([letter_task()])
    shown = [each async for each in feed(customer, task_id)]
    history = [each for each in shown if each.id is not None]
    assert [each.id for each in history] == list(range(1, len(history) + 1))
    assert history[0].event == "task.started"
    assert history[-1].event == "task.completed"
    assert shown[-1].event == "end"
    deltas = [each for each in shown if each.event == "delta"]
    assert len(deltas) > 1
    assert shown.index(deltas[0]) < shown.index(history[-1])
    last_turn: int = max(each.data["turn"] for each in deltas)
    text = ""
    for each in deltas:
        if each.data["turn"] == last_turn:
            text = text[: each.data["offset"]] + each.data["text"]
    task = await customer.settled(task_id)
    said = task.steps[0].turns[last_turn - 1].text
    assert said.startswith(text)
    assert text


async def test_a_feed_goes_on_where_it_was_left(
    slow_vendor: Platform, customer: Customer
) -> None:
    """Left and taken up again with Last-Event-ID, it has no gap and no repeat."""
    await slow_vendor.vendor.set_latency(100, TOKEN_MS)
    (task_id,) = await customer.submit([letter_task()])
    first: list[Shown] = []
    async for each in feed(customer, task_id):
        first.append(each)
        if each.id == 3:
            break
    rest = [each async for each in feed(customer, task_id, last_event_id=3)]
    ids = [each.id for each in (*first, *rest) if each.id is not None]
    assert ids == list(range(1, len(ids) + 1))
    assert rest[-1].event == "end"
    again = [each async for each in feed(customer, task_id)]
    assert [each.id for each in again if each.id is not None] == ids
    nothing_new = [
        each async for each in feed(customer, task_id, last_event_id=ids[-1])
    ]
    assert [each.event for each in nothing_new] == ["end"]


async def test_many_readers_see_the_same(
    slow_vendor: Platform, customer: Customer
) -> None:
    """Ten readers of one task get the same history."""
    await slow_vendor.vendor.set_latency(50)
    (task_id,) = await customer.submit([letter_task()])

    async def read() -> list[tuple[int | None, str]]:
        shown = [each async for each in feed(customer, task_id)]
        return [(each.id, each.event) for each in shown if each.event != "delta"]

    readers = await asyncio.gather(*(read() for _ in range(10)))
    assert all(each == readers[0] for each in readers)
    assert readers[0][-1] == (None, "end")
