import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
import yaml

from contracts.ledger import LedgerLine
from contracts.tasks import TaskStatus, TaskView
from contracts.usage import EndState
from embedded.stack import SERVICES
from embedded.state import ROOT
from telemetry.span_file import SpanRecord, read_spans
from testkit.platform import Platform
from testkit.platform_customer import Customer
from testkit.prove_scenarios import DOCUMENTS, LETTER, letter_task
from testkit.until import until

ROW = re.compile(r"^\d+\s+(.+?)\s{2,}(\d+)\s+([\d.]+)\s+([\d.]+)$", re.MULTILINE)
TOTAL = re.compile(r"^Total due\s+EUR\s+([\d.]+)$", re.MULTILINE)
LETTER_TEXT = (DOCUMENTS / LETTER).read_text()
SPANS_LIMIT_S = 20.0


@dataclass(frozen=True)
class Sums:
    """What a reader with a pencil finds in a letter."""

    stated_total: Decimal
    calculated_total: Decimal
    wrong: dict[str, tuple[Decimal, Decimal]]
    """Line or total → stated and calculated, where they differ."""


def sums_of(text: str) -> Sums:
    """Check a letter's arithmetic, independently of the platform."""
    products: list[Decimal] = []
    wrong: dict[str, tuple[Decimal, Decimal]] = {}
    for name, quantity, price, amount in ROW.findall(text):
        products.append(Decimal(quantity) * Decimal(price))
        if products[-1] != Decimal(amount):
            wrong[name] = (Decimal(amount), products[-1])
    (stated,) = (Decimal(each) for each in TOTAL.findall(text))
    if stated != sum(products):
        wrong["Total due"] = (stated, sum(products, Decimal(0)))
    return Sums(stated, sum(products, Decimal(0)), wrong)


def schema_of(employee: str) -> dict[str, Any]:
    """Return the schema that an example employee promises to fill."""
    path = ROOT / "examples" / "employees" / f"{employee}.yaml"
    return yaml.safe_load(path.read_text())["output_schema"]


def assert_answers(task: TaskView, text: str) -> None:
    """Hold a task's output against the letter that it was about."""
    expected, output = sums_of(text), task.output
    assert isinstance(output, dict)
    jsonschema.validate(output, schema_of("invoice-clerk"))
    assert output["invoice_number"] == "4711"
    assert Decimal(str(output["stated_total"])) == expected.stated_total
    assert Decimal(str(output["calculated_total"])) == expected.calculated_total
    assert output["sums_match"] is not bool(expected.wrong)
    assert output["recommendation"] == ("query" if expected.wrong else "pay")
    found: Any = output["discrepancies"]
    named = {
        each["description"]: (
            Decimal(str(each["stated"])),
            Decimal(str(each["calculated"])),
        )
        for each in found
    }
    assert named == expected.wrong
    for each in found:
        difference = Decimal(str(each["calculated"])) - Decimal(str(each["stated"]))
        assert Decimal(str(each["difference"])) == difference


async def test_the_demo_task_is_done_and_paid(
    platform: Platform, customer: Customer
) -> None:
    """
    The clerk reads the letter, calculates, answers by schema; the bill is exact.

    What is wrong in the letter is worked out here from its text. Turns, tool calls,
    tokens and cost are the task's own, and the ledger has a line for each attempt.
    """
    after = await platform.vendor.mark()
    task = await customer.run(letter_task())
    assert task.status is TaskStatus.COMPLETED
    assert len(sums_of(LETTER_TEXT).wrong) == 2
    assert_answers(task, LETTER_TEXT)
    (step,) = task.steps
    tools = {call.name for turn in step.turns for call in turn.tool_calls}
    assert tools == {"read_file", "calculator"}
    assert task.turns == len(step.turns) >= 3
    assert task.cost is not None
    assert task.cost.pico_usd > 0
    lines = [line for line in await customer.ledger() if line.task_id == task.task_id]
    assert len(lines) == task.attempts == task.cost.attempts
    assert sum(line.pico_usd for line in lines) == task.cost.pico_usd
    rows = await platform.vendor.rows(after)
    assert {row.client_request_id for row in rows} == {x.attempt_id for x in lines}
    assert task.usage.total == sum(x.input_tokens + x.output_tokens for x in rows)


@pytest.mark.parametrize(
    "change",
    [
        {"268.00": "258.00", "930.40": "920.40"},
        {"48.90": "47.90"},
        {"930.40": "930.41"},
    ],
    ids=["everything adds up", "one price", "the total"],
)
async def test_another_number_gives_another_answer(
    customer: Customer, change: dict[str, str]
) -> None:
    """Change one number of the letter, and the answer changes as it must."""
    text = LETTER_TEXT
    for old, new in change.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    task = await customer.run(letter_task(text))
    assert task.status is TaskStatus.COMPLETED
    assert_answers(task, text)


async def test_another_employee_works_by_its_own_schema(customer: Customer) -> None:
    """The support agent reads a thread and fills what its document asks for."""
    name = "thread-1093.txt"
    body = {
        "employee": "support-agent",
        "goal": f"Answer the customer in {name}",
        "files": [{"name": name, "content": (DOCUMENTS / name).read_text()}],
    }
    task = await customer.run(body)
    assert task.status is TaskStatus.COMPLETED
    output = task.output
    jsonschema.validate(output, schema_of("support-agent"))
    assert isinstance(output, dict)
    assert output["order_number"] == "NB-20931"


async def test_the_same_key_is_the_same_task(customer: Customer) -> None:
    """Repeating a request under its Idempotency-Key starts and pays nothing twice."""
    headers = {"idempotency-key": "month-end-4711"}
    answers = [
        await customer.http.post("/v1/tasks", json=letter_task(), headers=headers)
        for _ in range(3)
    ]
    (task_id,) = {each.json()["task_id"] for each in answers}
    other = letter_task() | {"goal": "Something else"}
    refused = await customer.http.post("/v1/tasks", json=other, headers=headers)
    assert refused.status_code == 422
    assert refused.json()["code"] == "idempotency-mismatch"
    await customer.await_end([task_id], 60)
    task = await customer.settled(task_id)
    assert task.attempts == task.turns


async def test_a_cancel_reaches_the_running_call(
    slow_vendor: Platform, customer: Customer
) -> None:
    """
    Cancelling hangs up on the vendor within seconds, and the call is on the ledger.

    The vendor would have taken a minute; it sees its client leave.
    """
    vendor = slow_vendor.vendor
    after = await vendor.mark()
    await vendor.set_latency(60_000)
    (task_id,) = await customer.submit([letter_task()])
    await until(vendor.open_calls, 20, "the call to run")
    answer = await customer.http.post(
        f"/v1/tasks/{task_id}/cancel", json={"reason": "a duplicate"}
    )
    assert answer.status_code == 202
    (task,) = await customer.await_end([task_id], 10)
    assert task.status is TaskStatus.CANCELLED
    (row,) = await until(lambda: vendor.rows(after), 10, "the vendor to notice")
    assert row.end_state == "client_disconnected"

    async def find_line() -> LedgerLine | None:
        lines = await customer.ledger()
        return next((each for each in lines if each.task_id == task_id), None)

    line = await until(find_line, 20, "the attempt's ledger line")
    assert line.attempt_id == row.client_request_id
    assert line.end_state is EndState.CANCELLED
    again = await customer.http.post(f"/v1/tasks/{task_id}/cancel")
    assert again.status_code == 202
    assert again.json()["status"] == "cancelled"


async def test_one_trace_goes_through_every_service(
    platform: Platform, customer: Customer
) -> None:
    """The task names its trace; spans of all five services carry it, on one tree."""
    task = await customer.run(letter_task())
    trace_id = task.trace_id
    assert trace_id is not None

    async def find_spans() -> list[SpanRecord] | None:
        files = platform.state.traces.glob("*.jsonl")
        spans = [span for path in files for span in read_spans(path, trace_id)]
        seen = {span.service for span in spans}
        return spans if seen >= {str(each) for each in SERVICES} else None

    spans = await until(find_spans, SPANS_LIMIT_S, "spans of every service")
    roots = [span for span in spans if span.parent_id is None]
    assert [(root.service, root.name) for root in roots] == [("gateway", "HTTP POST")]
