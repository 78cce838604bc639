from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import nats.errors
import pytest_asyncio
from nats.aio.msg import Msg

from contracts.tasks import TaskStatus, TaskView
from embedded.state import ROOT
from testkit.platform import Platform
from testkit.platform_customer import Customer, NatsGuest, nats_client
from testkit.prove_scenarios import letter_task
from testkit.until import until

EMPLOYEE = (ROOT / "examples" / "employees" / "invoice-clerk.yaml").read_bytes()
YAML = {"content-type": "application/yaml"}
LOGIN_LIMIT_S = 30.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rival(platform: Platform) -> Customer:
    """Lend a second tenant, with the same employee."""
    known = (await platform.admin.get("/v1/tenants")).json()["tenants"]
    rival = await platform.add_tenant(f"rival-{len(known)}")
    answer = await rival.http.post("/v1/employees", content=EMPLOYEE, headers=YAML)
    assert answer.status_code == 200, answer.text
    return rival


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rival_guest(rival: Customer) -> AsyncIterator[NatsGuest]:
    """Lend the second tenant's NATS connection, once the server knows its user."""
    async with AsyncExitStack() as stack:

        async def log_in() -> NatsGuest | None:
            try:
                return await stack.enter_async_context(nats_client(rival.login))
            except (nats.errors.Error, OSError):
                return None

        yield await until(log_in, LOGIN_LIMIT_S, "the server to know the user")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def task(customer: Customer) -> TaskView:
    """Lend the first tenant's finished task."""
    return await customer.run(letter_task())


async def test_another_tenants_task_is_not_there(
    rival: Customer, customer: Customer, task: TaskView
) -> None:
    """Reading, following, cancelling: 404 as if it had never been."""
    path = f"/v1/tasks/{task.task_id}"
    answers = [
        await rival.http.get(path),
        await rival.http.get(f"{path}/events"),
        await rival.http.post(f"{path}/cancel"),
    ]
    never = await rival.http.get(f"/v1/tasks/task_{'0' * 32}")
    for answer in (*answers, never):
        assert answer.status_code == 404
        assert answer.json()["code"] == "not-found"
    assert task.task_id not in {each.task_id for each in await rival.list_tasks()}
    still = await customer.get(task.task_id)
    assert still.status is TaskStatus.COMPLETED


async def test_money_is_told_to_its_payer_alone(
    rival: Customer, customer: Customer, task: TaskView
) -> None:
    """Asking for another's task gives no line; each ledger has its own tenant's."""
    answer = await rival.http.get("/v1/ledger", params={"task_id": task.task_id})
    assert answer.status_code == 200
    assert answer.json()["lines"] == []
    own = await rival.run(letter_task())
    assert own.status is TaskStatus.COMPLETED
    assert {line.tenant for line in await rival.ledger()} == {rival.tenant}
    assert {line.task_id for line in await rival.ledger()} == {own.task_id}
    assert {line.tenant for line in await customer.ledger()} == {customer.tenant}


async def test_the_same_idempotency_key_is_each_tenants_own(
    rival: Customer, customer: Customer
) -> None:
    """Two tenants that use the same key get two tasks."""
    headers = {"idempotency-key": "order-1"}
    ids = [
        (await each.http.post("/v1/tasks", json=letter_task(), headers=headers)).json()[
            "task_id"
        ]
        for each in (rival, customer)
    ]
    assert ids[0] != ids[1]
    await rival.await_end([ids[0]], 60)
    await customer.await_end([ids[1]], 60)


async def test_employees_and_triggers_are_each_tenants_own(rival: Customer) -> None:
    """What the first tenant applied is not listed to the second, nor does it run."""
    employees = (await rival.http.get("/v1/employees")).json()["employees"]
    assert {each["employee"]["name"] for each in employees} == {"invoice-clerk"}
    assert (await rival.http.get("/v1/employees/support-agent")).status_code == 404
    assert (await rival.http.get("/v1/triggers")).json()["triggers"] == []
    task = await rival.run(letter_task() | {"employee": "support-agent"})
    assert task.status is TaskStatus.FAILED
    assert task.problem is not None
    assert task.problem.code == "employee-unknown"


async def test_a_tenants_key_is_no_admins(
    rival: Customer, platform: Platform, task: TaskView
) -> None:
    """Tenants make neither tenants nor keys; an admin key has no tasks."""
    for request in (
        rival.http.get("/v1/tenants"),
        rival.http.post("/v1/tenants", json={"tenant": "another"}),
        rival.http.post("/v1/keys", json={"name": "x"}),
        rival.http.get("/v1/keys"),
        platform.admin.get(f"/v1/tasks/{task.task_id}"),
        platform.admin.post("/v1/tasks", json=letter_task()),
    ):
        answer = await request
        assert answer.status_code == 403, answer.text
        assert answer.json()["code"] == "forbidden"


async def test_a_revoked_key_is_refused_at_once(
    rival: Customer, platform: Platform
) -> None:
    """A key works from its making to its revocation."""
    body = {"tenant": rival.tenant, "name": "temporary"}
    created = (await platform.admin.post("/v1/keys", json=body)).json()
    headers = {"authorization": f"Bearer {created['api_key']}"}
    url = platform.endpoints["gateway"]
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        assert (await client.get("/v1/tasks")).status_code == 200
        path = f"/v1/keys/{created['key']['key_id']}"
        assert (await platform.admin.delete(path)).status_code == 204
        assert (await client.get("/v1/tasks")).status_code == 401


async def test_nats_lets_a_tenant_publish_only_its_own_events(
    rival_guest: NatsGuest, rival: Customer, customer: Customer
) -> None:
    """Another's events, facts, work, requests and JetStream's API are refused."""
    errors = rival_guest.errors
    await rival_guest.publish(f"events.{rival.tenant}.invoice.received", b"{}")
    assert errors == []
    forbidden = (
        f"events.{customer.tenant}.invoice.received",
        f"evt.orchestrator.task.{rival.tenant}.x",
        f"evt.orchestrator.task.{customer.tenant}.x",
        f"live.{customer.tenant}.x",
        f"work.orchestrator.stable.submit.{rival.tenant}",
        f"svc.orchestrator.stable.task-get.{customer.tenant}",
        f"$JS.API.STREAM.INFO.EVENTS_{customer.tenant}",
        f"_INBOX.tenant-{customer.tenant}.x",
        "_INBOX.gateway.x",
    )
    for subject in forbidden:
        errors.clear()
        await rival_guest.publish(subject, b"{}")
        await expect_refusal(rival_guest, subject)


async def test_nats_lets_a_tenant_read_only_its_own_results(
    rival_guest: NatsGuest, rival: Customer, customer: Customer
) -> None:
    """Another's results, anyone's events and work are refused."""
    errors = rival_guest.errors
    errors.clear()
    own = await rival_guest.subscribe(f"evt.orchestrator.task.{rival.tenant}.>", ignore)
    assert errors == []
    await own.unsubscribe()
    forbidden = (
        f"evt.orchestrator.task.{customer.tenant}.>",
        "evt.orchestrator.task.*.>",
        f"events.{customer.tenant}.>",
        f"live.{customer.tenant}.*",
        "work.>",
        "svc.>",
        ">",
    )
    for subject in forbidden:
        errors.clear()
        subscription = await rival_guest.subscribe(subject, ignore)
        await expect_refusal(rival_guest, subject)
        await subscription.unsubscribe()


async def test_nats_shows_a_tenant_only_its_own_replies(
    rival_guest: NatsGuest, rival: Customer, customer: Customer
) -> None:
    """Who hears every inbox hears the answers to itself, and nobody else's."""
    heard: list[bytes] = []
    every = await rival_guest.subscribe("_INBOX.>", lambda msg: heard.append(msg.data))
    async with nats_client(customer.login) as other:
        for _ in range(5):
            await other.publish_kept(f"events.{customer.tenant}.unwanted", b"{}")
    await customer.run(letter_task())
    await rival_guest.publish_kept(f"events.{rival.tenant}.unwanted", b"{}")

    async def has_heard() -> bool:
        return len(heard) > 0

    await until(has_heard, 5, "the answer to itself")
    await every.unsubscribe()
    assert [f"EVENTS_{rival.tenant}" in each.decode() for each in heard] == [True]


async def expect_refusal(guest: NatsGuest, subject: str) -> None:
    """Check that the server refuses what was just tried."""

    async def is_refused() -> bool:
        return any("permissions violation" in each.lower() for each in guest.errors)

    await until(is_refused, 5, f"{subject} to be refused")


def ignore(_msg: Msg) -> None:
    """Hear nothing of interest."""
