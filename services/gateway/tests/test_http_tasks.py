import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import httpx
import pytest
from gateway_world import (
    BODY,
    Headers,
    ScriptedBus,
    raising,
    tenant_headers,
    view_of,
)
from sqlalchemy import select

from contracts.ledger import GetTaskCost, TaskCost, TaskCosts
from contracts.problems import Code
from contracts.tasks import (
    CancelTask,
    GetTask,
    SubmitTask,
    TaskChanged,
    TaskEventType,
    TaskPage,
    TaskStatus,
    TaskView,
)
from determinism import SystemClock
from faults import PermanentFault, TransientFault
from gateway.adapters.tables import SHARED
from gateway.domain.admission import TaskRequest, request_digest
from gateway.handlers.tasks import hear_end
from messaging.refusals import refuse
from persistence.inline import InlineDatabase
from testkit.until import until

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def owed(store: InlineDatabase) -> list[SubmitTask]:
    """Return what the gateway's outbox owes."""
    rows = await store.read(
        lambda conn: conn.execute(select(SHARED.outbox.c.body)).scalars().all()
    )
    return [SubmitTask.model_validate_json(row) for row in rows]


async def test_202_means_that_task_and_message_are_on_disk(
    client: httpx.AsyncClient, acme: Headers, store: InlineDatabase
) -> None:
    """An accepted task is owed to the orchestrator before the answer goes out."""
    answer = await client.post("/v1/tasks", json=BODY, headers=acme)
    assert answer.status_code == 202
    task_id = answer.json()["task_id"]
    assert answer.headers["location"] == f"/v1/tasks/{task_id}"
    assert answer.json()["status"] == "submitted"
    assert [each.task_id for each in await owed(store)] == [task_id]


async def test_an_idempotency_key_makes_one_task(
    client: httpx.AsyncClient, acme: Headers, store: InlineDatabase
) -> None:
    """The same key with the same body is the same task, owed once."""
    headers = acme | {"idempotency-key": "k"}
    first = await client.post("/v1/tasks", json=BODY, headers=headers)
    second = await client.post("/v1/tasks", json=BODY, headers=headers)
    assert first.json()["task_id"] == second.json()["task_id"]
    assert len(await owed(store)) == 1


async def test_an_idempotency_key_with_another_body_is_refused(
    client: httpx.AsyncClient, acme: Headers
) -> None:
    """422, and the first task stands."""
    headers = acme | {"idempotency-key": "k"}
    await client.post("/v1/tasks", json=BODY, headers=headers)
    other = await client.post(
        "/v1/tasks", json=BODY | {"goal": "Another"}, headers=headers
    )
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency-mismatch"


async def test_tenants_may_use_the_same_idempotency_key(
    client: httpx.AsyncClient, acme: Headers
) -> None:
    """One tenant's key never meets another's."""
    globex = await tenant_headers(client, "globex")
    key = {"idempotency-key": "k"}
    first = await client.post("/v1/tasks", json=BODY, headers=acme | key)
    second = await client.post("/v1/tasks", json=BODY, headers=globex | key)
    assert first.json()["task_id"] != second.json()["task_id"]


async def test_a_pending_task_is_told_from_here(
    client: httpx.AsyncClient, acme: Headers
) -> None:
    """Until the orchestrator knows it, an accepted task is ``submitted``."""
    made = await client.post("/v1/tasks", json=BODY, headers=acme)
    answer = await client.get(made.headers["location"], headers=acme)
    assert answer.status_code == 200
    assert answer.json()["status"] == "submitted"


async def test_another_tenants_task_is_not_found(
    client: httpx.AsyncClient, acme: Headers
) -> None:
    """404, as if it did not exist."""
    made = await client.post("/v1/tasks", json=BODY, headers=acme)
    globex = await tenant_headers(client, "globex")
    answer = await client.get(made.headers["location"], headers=globex)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


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


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (b"", 400, "body"),
        (b"{", 400, "JSON"),
        (b"\xff\xfe", 400, "body"),
        (b"[]", 400, "body"),
        (b'{"employee": 1, "goal": "x"}', 400, "/employee"),
        (b'{"employee": "a", "goal": ""}', 400, "/goal"),
        (b'{"employee": "a", "goal": "x", "golas": 1}', 400, "/golas"),
        (json.dumps(BODY | {"input": "x" * 300_000}).encode(), 413, "262144"),
        (
            b'{"employee":"a","goal":"x","input":' + b"[" * 5000 + b"]" * 5000 + b"}",
            400,
            "",
        ),
        (
            b'{"employee":"a","goal":"x","input":' + b"[" * 70 + b"]" * 70 + b"}",
            400,
            "nested",
        ),
        (b'{"employee":"a","goal":"x","input":{"n":NaN}}', 400, "64 bits"),
        (b'{"employee":"a","goal":"x","input":[1e999]}', 400, "64 bits"),
        (b'{"employee":"a","goal":"x","input":99999999999999999999}', 400, "64 bits"),
        (b'{"employee":"a","goal":"x","input":' + b"9" * 5000 + b"}", 400, ""),
        (b'{"employee":"a","goal":"x","input":{"\\ud800":"\\ud800"}}', 400, ""),
    ],
    ids=[
        "empty",
        "cut",
        "not-utf8",
        "list",
        "type",
        "short",
        "unknown-field",
        "large",
        "very-deep",
        "deep",
        "nan",
        "infinite",
        "above-64-bits",
        "thousands-of-digits",
        "half-a-character",
    ],
)
async def test_garbage_gets_a_clear_problem(
    client: httpx.AsyncClient, acme: Headers, content: bytes, status: int, word: str
) -> None:
    """RFC 9457 with what is wrong; never a 500."""
    headers = acme | {"content-type": "application/json"}
    answer = await client.post("/v1/tasks", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert word in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer nonsense"},
        {"authorization": "Bearer de_admin_" + "b" * 64},
        {"authorization": "Basic YTpi"},
        {"x-api-key": "de__"},
    ],
)
async def test_a_bad_key_is_401(client: httpx.AsyncClient, headers: Headers) -> None:
    """The answer says how a key is sent."""
    answer = await client.post("/v1/tasks", json=BODY, headers=headers)
    assert answer.status_code == 401
    assert "Bearer" in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_x_api_key_works_too(client: httpx.AsyncClient, acme: Headers) -> None:
    """As Anthropic's SDK sends it."""
    key = acme["authorization"].removeprefix("Bearer ")
    answer = await client.post("/v1/tasks", json=BODY, headers={"x-api-key": key})
    assert answer.status_code == 202


async def test_a_replay_tells_the_same_location(
    client: httpx.AsyncClient, acme: Headers
) -> None:
    """Whoever asks twice finds the first task, new or not."""
    headers = acme | {"idempotency-key": "k"}
    first = await client.post("/v1/tasks", json=BODY, headers=headers)
    second = await client.post("/v1/tasks", json=BODY, headers=headers)
    assert second.status_code == 202
    assert first.headers["location"] == second.headers["location"]


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
    costs = [
        (each.get("cost") or {}).get("pico_usd") for each in listed.json()["tasks"]
    ]
    assert costs == [None, 1, 2]


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


def test_the_digest_of_a_request_outlives_new_options() -> None:
    """A later version's defaults do not make a repeat another request."""
    request = TaskRequest.model_validate(BODY)
    spelled = TaskRequest.model_validate(BODY | {"input": None, "files": []})
    assert request_digest(request) == request_digest(spelled)
    canonical = b'{"employee":"invoice-clerk","goal":"Check letter.txt"}'
    assert request_digest(request) == hashlib.sha256(canonical).hexdigest()
