import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
from nats.aio.msg import Msg

from contracts.deadletters import DeadLetterPage
from contracts.headers import ERROR
from contracts.subjects import (
    MODELS,
    PRICES,
    RECONCILE,
    TENANTS,
    WORK_VERBS,
    Service,
    Track,
    Verb,
    dead_letters,
    missing,
    replay,
    task_changed,
)
from contracts.tasks import TaskStatus
from embedded.stack import SERVICES
from nats_bootstrap.topology import ASKERS, SENDERS
from testkit.platform import Platform
from testkit.platform_customer import Customer, nats_client
from testkit.prove_scenarios import letter_task
from testkit.until import until

MIB = 1024 * 1024
DEEP = b'{"employee":"invoice-clerk","goal":"x","input":' + b"[" * 100_000
GARBAGE = (
    b"",
    b"\xff\xfe\x00\x01",
    b"{}",
    b"null",
    b"[" * 5000,
    b'{"tenant": "someone-else"}',
    b'{"tenant": 1, "task_id": {"a": []}, "records": "x"}',
)


def body_of(**changed: Any) -> bytes:
    """Return the demo task with some fields changed."""
    return json.dumps(letter_task() | changed).encode()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid"),
        (b"x" * 10 * MIB, 413, "too-large"),
        (b'{"employee": "a"', 400, "invalid"),
        (b"[]", 400, "invalid"),
        (b"null", 400, "invalid"),
        (b"{}", 400, "invalid"),
        (body_of(employee=7), 400, "invalid"),
        (body_of(employee="No Such Name!"), 400, "invalid"),
        (body_of(goal=["a"]), 400, "invalid"),
        (body_of(goal=""), 400, "invalid"),
        (body_of(files="a.txt"), 400, "invalid"),
        (body_of(files=[{"name": "../../etc/x", "content": ""}]), 400, "invalid"),
        (body_of(unknown_field=1), 400, "invalid"),
        (DEEP, 400, "invalid"),
        (DEEP + b"]" * 100_000 + b"}", 400, "invalid"),
        (b'{"employee":"a","goal":"\xff\xfe"}', 400, "invalid"),
        (b'{"employee":"a","goal":"\\ud800"}', 400, "invalid"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
async def test_a_bad_body_gets_a_clear_problem(
    customer: Customer, body: bytes, status: int, code: str
) -> None:
    """Problem details with a code and words on what to do; never a 500."""
    headers = {"content-type": "application/json"}
    answer = await customer.http.post("/v1/tasks", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["detail"]


async def test_a_streamed_body_has_the_same_limit(customer: Customer) -> None:
    """Without a declared length, it is counted as it comes."""

    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(160):
            yield b"x" * 65_536

    answer = await customer.http.post("/v1/tasks", content=chunks())
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer de_nobody_nothing"},
        {b"authorization": b"Bearer de_\xff\xfe"},
        {b"authorization": b"Basic YTpi"},
        {b"x-api-key": b"x" * 4000, b"authorization": b""},
    ],
)
async def test_a_bad_key_is_refused(
    customer: Customer, headers: dict[bytes, bytes]
) -> None:
    """Whatever stands in the headers, 401 with the way to authenticate."""
    for path in ("/v1/tasks", "/v1/ledger", "/v1/tenants"):
        answer = await customer.http.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tasks/nothing",
        "/v1/tasks/task_" + "0" * 32,
        "/v1/tasks/" + "x" * 200,
        "/v1/tasks/%00%ff",
        "/v1/tasks/a.b.*.>",
        "/v1/tasks?limit=0",
        "/v1/tasks?limit=x",
        "/v1/tasks?status=unheard-of",
        "/v1/tasks?cursor=%00garbage",
        "/v1/ledger?cursor=garbage",
        "/v1/deadletters/nobody",
        "/v1/nothing",
    ],
)
async def test_a_bad_address_gets_a_clear_problem(
    customer: Customer, path: str
) -> None:
    """Ids, cursors and limits that are none: 400 or 404, never a 500."""
    answer = await customer.http.get(path)
    assert answer.status_code in {400, 404}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


async def test_an_unknown_employee_fails_the_task(customer: Customer) -> None:
    """The task is taken, and fails saying who is not there."""
    task = await customer.run(letter_task() | {"employee": "nobody-here"})
    assert task.status is TaskStatus.FAILED
    assert task.problem is not None
    assert task.problem.code == "employee-unknown"
    assert "nobody-here" in task.problem.detail
    assert task.attempts == 0


async def test_garbage_on_every_work_subject_is_kept(
    platform: Platform, customer: Customer
) -> None:
    """Each piece becomes a dead letter of its receiver; nothing dies of it."""
    restarts, before = platform.restarts(), await count_dead(platform)
    for verb in WORK_VERBS:
        (sender,) = SENDERS[verb]
        async with nats_client(platform.service_login(sender)) as guest:
            for piece in GARBAGE:
                subject = verb.to(customer.tenant).on(Track.STABLE)
                await guest.publish_kept(subject, piece)
            assert guest.errors == []
    sent = {
        service: len(GARBAGE) * sum(verb.service is service for verb in WORK_VERBS)
        for service in SERVICES
    }

    async def are_kept() -> bool:
        now = await count_dead(platform)
        return all(now[each] - before[each] == sent[each] for each in SERVICES)

    await until(are_kept, 30, "every piece to be a dead letter")
    await expect_unharmed(platform, customer, restarts)


async def test_garbage_in_every_request_is_answered(
    platform: Platform, customer: Customer
) -> None:
    """Each asker gets an error envelope that names a code, in place of silence."""
    restarts = platform.restarts()
    for verb, asker in requests():
        subject = verb.to(customer.tenant).on(Track.STABLE)
        async with nats_client(platform.service_login(asker)) as guest:
            for piece in GARBAGE:
                if asks_nothing(verb) and piece.startswith(b"{"):
                    continue  # a whole question, with fields that nobody reads
                reply = await guest.request(subject, piece)
                assert code_of(reply) in {"invalid", "forbidden"}, (subject, piece)
    await expect_unharmed(platform, customer, restarts)


async def test_garbage_for_listeners_is_ignored(
    platform: Platform, customer: Customer
) -> None:
    """Facts, deltas, cancels and bells that are none are dropped."""
    restarts = platform.restarts()
    bells = (
        (Service.ORCHESTRATOR, task_changed(customer.tenant, "task_x")),
        (Service.AGENT_RUNTIME, f"live.{customer.tenant}.task_x"),
        (Service.AGENT_RUNTIME, "svc.ai-broker.instance_x.cancel"),
        (Service.GATEWAY, f"evt.gateway.tenant.{customer.tenant}"),
    )
    for sender, subject in bells:
        async with nats_client(platform.service_login(sender)) as guest:
            for piece in GARBAGE:
                await guest.publish(subject, piece)
            assert guest.errors == []
    await expect_unharmed(platform, customer, restarts)


def requests() -> Iterator[tuple[Verb, Service]]:
    """Return every request that a running service answers, and one who may ask."""
    for verb, askers in ASKERS.items():
        yield verb, askers[0]
    for verb, senders in SENDERS.items():
        yield missing(verb.service), senders[0]
    for service in SERVICES:
        yield dead_letters(service), Service.GATEWAY
        yield replay(service), Service.GATEWAY


def asks_nothing(verb: Verb) -> bool:
    """Tell whether a question has no fields, so that any object asks it."""
    return verb in {TENANTS, RECONCILE, PRICES, MODELS}


def code_of(reply: Msg) -> str | None:
    """Return the problem's code of an error envelope or a failed frame."""
    if reply.headers is not None and ERROR in reply.headers:
        return reply.headers[ERROR]
    frame = json.loads(reply.data)
    is_failed = frame.get("kind") == "failed"
    return frame["error"]["problem"]["code"] if is_failed else None


async def count_dead(platform: Platform) -> dict[Service, int]:
    """Return how many dead letters each service has."""
    found: dict[Service, int] = {}
    for service in SERVICES:
        count, cursor = 0, ""
        while True:
            query = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
            answer = await platform.admin.get(
                f"/v1/deadletters/{service}", params=query
            )
            assert answer.status_code == 200, answer.text
            page = DeadLetterPage.model_validate_json(answer.content)
            count += len(page.dead_letters)
            cursor = page.next_cursor or ""
            if not cursor:
                break
        found[service] = count
    return found


async def expect_unharmed(
    platform: Platform, customer: Customer, restarts: dict[str, int]
) -> None:
    """Check that nothing was started again, and that a task still completes."""
    task = await customer.run(letter_task())
    assert task.status is TaskStatus.COMPLETED
    await platform.await_ready()
    assert platform.restarts() == restarts
