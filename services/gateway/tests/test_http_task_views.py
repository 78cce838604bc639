import asyncio
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime

import httpx
import pytest
from gateway_world import (
    BODY,
    Headers,
    ScriptedBus,
    raising,
    view_of,
)

import telemetry
from contracts.ledger import GetTaskCost, TaskCost, TaskCosts
from contracts.problems import Code
from contracts.tasks import (
    CancelTask,
    GetTask,
    TaskChanged,
    TaskEventType,
    TaskPage,
    TaskStatus,
    TaskView,
)
from determinism import SystemClock
from faults import PermanentFault, TransientFault
from gateway.handlers.tasks import hear_end
from messaging.refusals import refuse
from testkit.until import until

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DOWN = [
    TransientFault("nobody listens"),
    refuse(Code.OVERLOADED, "full", retryable=True),
    PermanentFault("the reply is no TaskView", code="reply-unreadable"),
]


@pytest.mark.parametrize("error", DOWN, ids=["down", "full", "unreadable"])
@pytest.mark.parametrize("wait", [{}, {"wait": "1s"}], ids=["at-once", "waiting"])
async def test_an_accepted_task_is_202_whatever_its_owner_says(
    client: httpx.AsyncClient,
    acme: Headers,
    bus: ScriptedBus,
    error: Exception,
    wait: Headers,
) -> None:
    """A fault after the commit would make the caller hand the task in again."""
    bus.answers["task-get"] = raising(error)
    headers = acme | {"idempotency-key": "k"}
    for _ in range(2):
        answer = await client.post("/v1/tasks", json=BODY, headers=headers, params=wait)
        assert answer.status_code == 202
        assert answer.json()["status"] == "submitted"
        assert answer.headers["location"]


@pytest.mark.parametrize("error", DOWN[:2], ids=["down", "full"])
async def test_an_owner_that_is_down_is_503(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, error: Exception
) -> None:
    """A problem, and when to ask again; never the state of a guess."""
    bus.answers["task-get"] = raising(error)
    answer = await client.get("/v1/tasks/task_1", headers=acme)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("error", DOWN, ids=["down", "full", "unreadable"])
async def test_a_task_is_told_without_its_cost(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, error: Exception
) -> None:
    """billing-meter may be away, or older; the task is not."""
    bus.answers["task-get"] = ended_task
    bus.answers["task-cost"] = raising(error)
    answer = await client.get("/v1/tasks/task_1", headers=acme)
    assert answer.status_code == 200
    assert "cost" not in answer.json() or answer.json()["cost"] is None


async def test_costs_are_matched_by_task(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """An answer in another order, or with one task less, mixes nothing up."""
    views = tuple(
        view_of(GetTask(tenant="acme", task_id=f"task_{number}")) for number in range(3)
    )
    known = [TaskCost(task_id=f"task_{n}", pico_usd=n, attempts=1) for n in (2, 1)]
    bus.answers["task-list"] = lambda _request: TaskPage(tasks=views)
    bus.answers["task-cost"] = lambda _request: TaskCosts(costs=tuple(known))
    listed = await client.get("/v1/tasks", headers=acme)
    page = TaskPage.model_validate_json(listed.content)
    assert [each.cost and each.cost.pico_usd for each in page.tasks] == [None, 1, 2]


async def test_waiting_ends_with_the_task(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """A bell that tells of the end is enough; 200 says that this is the end."""
    bus.answers["task-get"] = view_of

    async def end() -> None:
        async def is_watched() -> bool:
            return bus.watched > 0 and bus.count("task-get") > 0

        await until(is_watched, 5, "the gateway to wait")
        bus.answers["task-get"] = ended_task
        (subject,) = (each for each, heard in bus.watches.items() if heard)
        task_id = subject.rpartition(".")[2]
        for status in (TaskStatus.RUNNING, TaskStatus.COMPLETED):
            bell = TaskChanged(
                task_id=task_id,
                tenant="acme",
                status=status,
                seq=1,
                type=TaskEventType.TASK_STARTED,
                at=NOW,
            )
            await bus.announce(subject, bell)

    async with asyncio.TaskGroup() as group:
        ending = group.create_task(end())
        answer = await client.post(
            "/v1/tasks", json=BODY, headers=acme, params={"wait": "30s"}
        )
        await ending
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    assert bus.count("task-get") == 2
    assert bus.watched == 0


async def test_waiting_for_bells_that_are_over_does_not_spin() -> None:
    """Whatever the bus does, the owner is asked at the pace of the poll."""

    async def silence() -> AsyncGenerator[TaskChanged]:
        for bell in ():
            yield bell

    clock = SystemClock()
    began = clock.monotonic()
    await hear_end(silence(), 0.05, clock)
    assert clock.monotonic() - began >= 0.04


async def test_a_task_just_submitted_can_be_cancelled(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """The cancel waits for the hand-over instead of answering that there is none."""
    made = await client.post("/v1/tasks", json=BODY, headers=acme)

    def cancel(request: CancelTask) -> TaskView:
        if bus.count("task-cancel") < 3:
            raise refuse(Code.NOT_FOUND, "not here yet")
        return view_of(request, "cancelling")

    bus.answers["task-cancel"] = cancel
    path = f"{made.headers['location']}/cancel"
    answer = await client.post(path, headers=acme)
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")


async def test_an_unknown_task_cannot_be_cancelled(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """404 at once: nobody is handing it over."""
    answer = await client.post("/v1/tasks/task_unknown/cancel", headers=acme)
    assert answer.status_code == 404
    assert bus.count("task-cancel") == 1


@pytest.fixture
def traced() -> Generator[None]:
    """Trace, as a running gateway does."""
    running = telemetry.configure("gateway", "gateway_1")
    yield
    running.shutdown()


@pytest.mark.usefixtures("traced")
async def test_an_error_of_ours_names_its_trace(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """500 as a problem; whoever reports it can say which request it was."""
    bus.answers["task-get"] = raising(ZeroDivisionError("secret of the caller"))
    answer = await client.get("/v1/tasks/task_1", headers=acme)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.headers["x-trace-id"]) == 32
    assert "secret" not in answer.text


async def test_cost_is_provisional_until_the_ledger_has_every_attempt(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """Two attempts known, one on the ledger: the cost is not final."""
    bus.answers["task-get"] = ended_task
    bus.answers["task-cost"] = lambda request: costs(request, attempts=1)
    answer = await client.get("/v1/tasks/task_1", headers=acme)
    assert answer.json()["cost"]["provisional"] is True
    bus.answers["task-cost"] = lambda request: costs(request, attempts=2)
    answer = await client.get("/v1/tasks/task_1", headers=acme)
    assert answer.json()["cost"] == {
        "pico_usd": 1_500_000,
        "usd": "0.0000015",
        "attempts": 2,
        "provisional": False,
    }


def ended_task(request: GetTask) -> TaskView:
    """Return a completed task of two attempts."""
    return view_of(request, "completed", attempts=2)


def costs(request: GetTaskCost, attempts: int) -> TaskCosts:
    """Return what the ledger has of one task."""
    cost = TaskCost(task_id=request.task_ids[0], pico_usd=1_500_000, attempts=attempts)
    return TaskCosts(costs=(cost,))
