import hashlib
import json

import httpx
import pytest
from gateway_world import (
    BODY,
    Headers,
    tenant_headers,
)
from sqlalchemy import select

from contracts.tasks import (
    SubmitTask,
)
from gateway.adapters.tables import SHARED
from gateway.domain.admission import TaskRequest, request_digest
from persistence.inline import InlineDatabase


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
        (b'{"employee":"a","goal":"x","input":{"n":NaN}}', 400, "infinite"),
        (b'{"employee":"a","goal":"x","input":[1e999]}', 400, "infinite"),
        (b'{"employee":"a","goal":"x","input":99999999999999999999}', 400, "64 bits"),
        (b'{"employee":"a","goal":"x","input":' + b"9" * 5000 + b"}", 400, ""),
        (b'{"employee":"a","goal":"x","input":{"\\ud800":1}}', 400, "half"),
        (b'{"employee":"a","goal":"\\ud800"}', 400, "/goal"),
        (b'{"employee":"a","goal":"x","\\ud800":1}', 400, "unicode"),
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
        "half-in-goal",
        "half-in-name",
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


def test_the_digest_of_a_request_outlives_new_options() -> None:
    """A later version's defaults do not make a repeat another request."""
    request = TaskRequest.model_validate(BODY)
    spelled = TaskRequest.model_validate(BODY | {"input": None, "files": []})
    assert request_digest(request) == request_digest(spelled)
    canonical = b'{"employee":"invoice-clerk","goal":"Check letter.txt"}'
    assert request_digest(request) == hashlib.sha256(canonical).hexdigest()
