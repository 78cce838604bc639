from datetime import UTC, datetime
from typing import Final

import pytest

from contracts.events import Event, Trigger, TriggerTask
from contracts.message import Json
from faults import PermanentFault
from orchestrator.domain.definition import plain
from orchestrator.domain.triggers import check, matches, start

NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)
EVENT: Final = Event(
    tenant="acme",
    subject="events.acme.invoice.received",
    id="e-1",
    source="/erp",
    type="invoice.received",
    data={
        "number": 7,
        "kind": "overdue",
        "paid": True,
        "lines": [{"sum": 3}],
        "text": "Dear all",
        "long": "x" * 1000,
    },
)


def trigger(
    subject: str = "invoice.*",
    where: dict[str, Json] | None = None,
    goal: str = "File invoice {{ data.number }}.",
    task_input: str | None = None,
    files: dict[str, str] | None = None,
) -> Trigger:
    """Build a trigger."""
    task = TriggerTask(employee="clerk", goal=goal, input=task_input, files=files or {})
    return Trigger(name="invoices", subject=subject, where=where or {}, task=task)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("invoice.received", True),
        ("invoice.*", True),
        ("*.received", True),
        ("invoice.>", True),
        (">", True),
        ("invoice", False),
        ("invoice.received.>", False),
        ("invoice.*.*", False),
        ("order.*", False),
    ],
)
def test_subjects_match_as_on_nats(subject: str, expected: bool) -> None:  # noqa: FBT001 -- a table's column
    """A star is one token, > is one or more."""
    assert matches(trigger(subject), EVENT) is expected


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("data.kind", "overdue", True),
        ("data.kind", "paid", False),
        ("type", "invoice.received", True),
        ("source", "/erp", True),
        ("data.number", 7, True),
        ("data.number", "7", False),
        ("data.paid", True, True),
        ("data.paid", 1, False),
        ("data.lines.0", {"sum": 3}, True),
        ("data.lines.1.sum", None, False),
        ("data.absent", None, False),
    ],
)
def test_where_compares_as_json_does(path: str, value: Json, expected: bool) -> None:  # noqa: FBT001 -- a table's column
    """Types count, and nothing is equal to what is absent."""
    assert matches(trigger(where={path: value}), EVENT) is expected


def test_an_event_becomes_a_task() -> None:
    """Goal, input and files are filled from the event; the id is derived."""
    wanted = trigger(
        goal="File {{data.number}} of {{ data.lines }}: {{ type }}",
        task_input="data.lines.0",
        files={"invoice-{{ data.number }}.txt": "data.text", "all.json": "data.lines"},
    )
    started = start(wanted, EVENT, NOW)
    brief = started.brief
    goal = 'File 7 of [{"sum":3}]: invoice.received'
    assert (brief.goal, brief.employee, brief.input) == (goal, "clerk", {"sum": 3})
    assert brief.definition == plain("clerk", goal)
    assert [(file.name, file.content) for file in brief.files] == [
        ("invoice-7.txt", "Dear all"),
        ("all.json", '[{"sum":3}]'),
    ]
    assert started.triggered_by == "invoices:e-1"
    assert start(wanted, EVENT, NOW).brief == brief
    other = EVENT.model_copy(update={"source": "/crm"})
    assert start(wanted, other, NOW).brief.task_id != brief.task_id


def test_values_are_words_not_templates() -> None:
    """Nothing in an event is expanded again."""
    event = EVENT.model_copy(update={"data": {"a": "{{ data.b }}", "b": "secret"}})
    assert start(trigger(goal="{{ data.a }}"), event, NOW).brief.goal == "{{ data.b }}"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (trigger(goal="{{ data.absent }}"), "task.goal: .*nothing at data.absent"),
        (trigger(task_input="data.absent"), "task.input: .*nothing at data.absent"),
        (trigger(files={"a.txt": "data.absent"}), "nothing at data.absent"),
        (trigger(files={"{{ data.text }}": "data.text"}), "cannot be a file"),
        (trigger(goal="{{ data.long }}" * 400), "too many characters"),
        (
            trigger(files={"a.txt": "data.text", "{{ data.name }}": "type"}),
            "nothing at data.name",
        ),
    ],
)
def test_a_missing_path_is_named(wanted: Trigger, reason: str) -> None:
    """No task starts with half a goal, and the dead letter says what is missing."""
    with pytest.raises(PermanentFault, match=reason):
        start(wanted, EVENT, NOW)


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        (trigger("invoice.>.x"), "/subject"),
        (trigger("inv*"), "/subject"),
        (trigger(where={"payload.kind": 1}), "/where/payload.kind"),
        (trigger(goal="{{ data..x }}"), "/task/goal"),
        (trigger(goal="{{ data.x"), "/task/goal"),
        (trigger(task_input="body"), "/task/input"),
        (trigger(files={"a.txt": "data. x"}), "/task/files/a.txt"),
    ],
)
def test_a_trigger_that_cannot_work_is_refused(wanted: Trigger, pointer: str) -> None:
    """A builder learns at once which field is wrong."""
    assert [fault.pointer for fault in check(wanted)] == [pointer]
    assert check(trigger()) == ()
