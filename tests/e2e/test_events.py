import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from contracts.deadletters import DeadLetter, DeadLetterPage
from contracts.tasks import TaskChanged, TaskStatus, TaskView
from embedded.state import ROOT
from testkit.platform import Platform
from testkit.platform_customer import Customer, NatsGuest, nats_client
from testkit.until import until

EXAMPLE = json.loads(
    (ROOT / "examples" / "events" / "invoice-received.json").read_text()
)
TRIGGER = "invoice-received"
END_LIMIT_S = 60.0


@pytest_asyncio.fixture(loop_scope="session")
async def guest(customer: Customer) -> AsyncIterator[NatsGuest]:
    """Lend the tenant's own NATS connection."""
    async with nats_client(customer.login) as guest:
        yield guest


@pytest.fixture
def subject(customer: Customer) -> str:
    """Return where the tenant's scanner publishes."""
    return f"events.{customer.tenant}.invoice.received"


def letter(supplier: str) -> dict[str, Any]:
    """Return an event's data, told from others by its supplier."""
    return EXAMPLE["data"] | {"supplier": supplier}


async def publish(
    guest: NatsGuest, subject: str, body: object, headers: Mapping[str, str]
) -> None:
    """Publish as JetStream clients do: with the server's word that it is kept."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    stream = await guest.publish_kept(subject, data, headers)
    assert stream.startswith("EVENTS_")


async def tasks_about(customer: Customer, supplier: str) -> list[TaskView]:
    """Return the tasks that were started about a supplier."""
    found = await customer.list_tasks()
    return [each for each in found if supplier in (each.goal or "")]


async def await_task(customer: Customer, supplier: str) -> TaskView:
    """Return the task that an event started, once it has ended."""
    (task,) = await until(
        lambda: tasks_about(customer, supplier), 30, f"a task about {supplier}"
    )
    (ended,) = await customer.await_end([task.task_id], END_LIMIT_S)
    return ended


def assert_found_the_error(task: TaskView) -> None:
    """Check that the letter of the event was read: 3 fittings at 45 are not 145."""
    assert task.status is TaskStatus.COMPLETED, task.problem
    assert isinstance(task.output, dict)
    assert task.output["invoice_number"] == "K-20517"
    assert task.output["calculated_total"] == 490.5
    assert task.output["stated_total"] == 500.5


BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "scan-binary",
    "ce-source": "/mailroom",
    "ce-type": "invoice.received",
    "content-type": "application/json",
}
STRUCTURED = {"content-type": "application/cloudevents+json"}


@pytest.mark.parametrize("mode", ["binary", "structured", "plain"])
async def test_an_event_becomes_a_task(
    customer: Customer, guest: NatsGuest, subject: str, mode: str
) -> None:
    """CloudEvents in both modes and plain JSON start the trigger's task."""
    data = letter(f"Kestrel {mode}")
    match mode:
        case "binary":
            await publish(guest, subject, data, BINARY)
        case "structured":
            body = EXAMPLE | {"id": "scan-structured", "data": data}
            await publish(guest, subject, body, STRUCTURED)
        case _:
            await publish(guest, subject, data, {})
    task = await await_task(customer, f"Kestrel {mode}")
    assert_found_the_error(task)
    assert task.triggered_by is not None
    assert task.triggered_by.startswith(f"{TRIGGER}:")
    assert task.input == data["reference"]


async def test_a_duplicate_starts_nothing_twice(
    customer: Customer, guest: NatsGuest, subject: str
) -> None:
    """
    The same event id of the same source is one event, however often it comes.

    JetStream's own window is got round with other Nats-Msg-Ids: the id decides.
    The same id of another source is another event.
    """
    body = EXAMPLE | {"id": "scan-twice", "data": letter("Kestrel twice")}
    for number in range(5):
        headers = STRUCTURED | {"Nats-Msg-Id": f"twice-{number}"}
        await publish(guest, subject, body, headers)
    await await_task(customer, "Kestrel twice")
    await publish(guest, subject, body, STRUCTURED)
    elsewhere = body | {"source": "/elsewhere", "data": letter("Kestrel elsewhere")}
    await publish(guest, subject, elsewhere, STRUCTURED)
    await await_task(customer, "Kestrel elsewhere")
    await assert_all_taken(customer, subject, guest)
    assert len(await tasks_about(customer, "Kestrel twice")) == 1


async def test_what_no_trigger_wants_starts_nothing(
    customer: Customer, guest: NatsGuest, subject: str
) -> None:
    """An event that the trigger's conditions do not fit is taken and forgotten."""
    unwanted = letter("Kestrel unwanted") | {"kind": "brochure"}
    await publish(guest, subject, unwanted, {})
    await publish(guest, f"{subject}.else", letter("Kestrel other subject"), {})
    await assert_all_taken(customer, subject, guest)
    assert await tasks_about(customer, "Kestrel unwanted") == []
    assert await tasks_about(customer, "Kestrel other subject") == []


@pytest.mark.parametrize(
    ("supplier", "body", "reason"),
    [
        ("Kestrel torn", b'{"kind": "letter", ', "not JSON"),
        ("Kestrel bytes", b"\xff\xfe\x00garbage", "not UTF-8"),
        ("Kestrel version", b'{"specversion": "0.3", "id": "x"}', "specversion"),
    ],
)
async def test_a_malformed_event_is_kept_and_can_be_repaired(
    customer: Customer,
    guest: NatsGuest,
    subject: str,
    *,
    supplier: str,
    body: bytes,
    reason: str,
) -> None:
    """It becomes a dead letter that says why; repaired and replayed, it is a task."""
    dead = await await_dead_letter(customer, guest, subject, body, {})
    assert dead.reason == "invalid"
    assert reason in dead.detail
    assert dead.subject == subject
    assert dead.body == body
    assert (await replay(customer, dead, None)).status_code in {400, 409, 422}
    assert dead.id in {each.id for each in await dead_letters(customer)}
    repaired = EXAMPLE | {"id": supplier, "data": letter(supplier)}
    answer = await replay(customer, dead, json.dumps(repaired).encode())
    assert answer.status_code == 204, answer.text
    assert_found_the_error(await await_task(customer, supplier))
    assert dead.id not in {each.id for each in await dead_letters(customer)}
    again = await replay(customer, dead, json.dumps(repaired).encode())
    assert again.status_code == 409
    assert len(await tasks_about(customer, supplier)) == 1


async def test_a_cloudevent_without_id_is_kept(
    customer: Customer, guest: NatsGuest, subject: str
) -> None:
    """In binary mode too: without an id it could be taken twice."""
    headers = {"ce-type": "invoice.received", "ce-specversion": "1.0"}
    dead = await await_dead_letter(customer, guest, subject, b"{}", headers)
    assert "needs an id" in dead.detail


async def test_the_publisher_learns_the_result(
    customer: Customer, guest: NatsGuest, subject: str
) -> None:
    """On its own subject, with the event's id beside it and the output at the end."""
    heard: list[TaskChanged] = []

    def hear(msg: Msg) -> None:
        heard.append(TaskChanged.model_validate_json(msg.data))

    await guest.subscribe(f"evt.orchestrator.task.{customer.tenant}.>", hear)
    body = EXAMPLE | {"id": "scan-asks", "data": letter("Kestrel asks")}
    await publish(guest, subject, body, STRUCTURED)

    async def find_end() -> TaskChanged | None:
        return next((each for each in heard if each.status.is_end), None)

    last = await until(find_end, END_LIMIT_S, "the task's end")
    assert last.status is TaskStatus.COMPLETED
    assert last.triggered_by == f"{TRIGGER}:scan-asks"
    task = await customer.get(last.task_id)
    assert last.output == task.output
    assert [each.seq for each in heard] == sorted({each.seq for each in heard})


async def test_events_survive_the_orchestrator(
    platform: Platform, customer: Customer, guest: NatsGuest, subject: str
) -> None:
    """What is published while the orchestrator is dead starts a task afterwards."""
    pid = platform.processes()["orchestrator"]
    killing = asyncio.create_task(platform.kill("orchestrator"))
    await until(lambda: _is_gone(platform, pid), 10, "the orchestrator to die")
    await publish(guest, subject, letter("Kestrel meanwhile"), {})
    await killing
    await platform.await_ready()
    assert_found_the_error(await await_task(customer, "Kestrel meanwhile"))


async def await_dead_letter(
    customer: Customer,
    guest: NatsGuest,
    subject: str,
    body: bytes,
    headers: Mapping[str, str],
) -> DeadLetter:
    """Publish, and return the dead letter that it becomes."""
    before = {each.id for each in await dead_letters(customer)}
    await publish(guest, subject, body, headers)

    async def find() -> DeadLetter | None:
        found = await dead_letters(customer)
        return next((each for each in found if each.id not in before), None)

    return await until(find, 20, "the dead letter")


async def replay(
    customer: Customer, dead: DeadLetter, body: bytes | None
) -> httpx.Response:
    """Replay a dead letter, with a repaired body if one is given."""
    path = f"/v1/deadletters/orchestrator/{dead.id}/replay"
    if body is None:
        return await customer.http.post(path)
    encoded = base64.b64encode(body).decode()
    return await customer.http.post(path, json={"body": encoded})


async def dead_letters(customer: Customer) -> list[DeadLetter]:
    """Return the tenant's open dead letters at the orchestrator."""
    answer = await customer.http.get("/v1/deadletters/orchestrator?limit=200")
    assert answer.status_code == 200, answer.text
    return list(DeadLetterPage.model_validate_json(answer.content).dead_letters)


async def assert_all_taken(customer: Customer, subject: str, guest: NatsGuest) -> None:
    """Publish one more event, and check that it becomes a task after the others."""
    count = len(await tasks_about(customer, "Kestrel last"))
    await publish(guest, subject, letter(f"Kestrel last {count}"), {})
    await await_task(customer, f"Kestrel last {count}")


async def _is_gone(platform: Platform, pid: int) -> bool:
    return platform.processes().get("orchestrator") != pid
