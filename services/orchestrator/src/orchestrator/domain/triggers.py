"""
Triggers: which events start which task, and with what words.

    subject: invoice.*                    # after events.<tenant>., NATS wildcards
    where: {data.kind: overdue}           # path in the event → value
    task:
      employee: clerk
      goal: "Remind {{ data.customer.name }} of invoice {{ data.number }}."
      input: data
      files: {"{{ data.number }}.txt": data.text}

A path that leads nowhere is a ``PermanentFault`` that names it: no task starts with
half a goal. The other triggers start theirs; the event becomes a dead letter all the
same, and a replay starts what is missing, since the same trigger and the same event
give the same task id.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from contracts.events import Event, Trigger
from contracts.ids import derived_id
from contracts.message import Json, JsonObject
from contracts.problems import FieldError
from contracts.tasks import SubmitTask, TaskFile
from faults import PermanentFault
from orchestrator.domain.definition import GOAL_CHARS_MAX, plain
from orchestrator.domain.paths import document, fault_in, is_equal, look_up

_PLACE: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_TEXT_TYPE: Final = "text/plain"
_JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Started:
    """A task that an event starts."""

    brief: SubmitTask
    triggered_by: str
    """``<trigger>:<event id>``."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What an event sets going."""

    started: tuple[Started, ...]
    failures: tuple[str, ...]
    """Why the other triggers that wait for it could not use it."""


def check(trigger: Trigger) -> tuple[FieldError, ...]:
    """Return what cannot work in a trigger; nothing when all can."""
    return tuple(_faults(trigger))


def pull(waiting: Iterable[Trigger], event: Event, now: datetime) -> Pulled:
    """Return the tasks of those triggers that wait for this event."""
    started: list[Started] = []
    failures: list[str] = []
    for trigger in waiting:
        if not matches(trigger, event):
            continue
        try:
            started.append(start(trigger, event, now))
        except PermanentFault as fault:
            failures.append(fault.detail)
    return Pulled(tuple(started), tuple(failures))


def matches(trigger: Trigger, event: Event) -> bool:
    """Tell whether the event is one that the trigger waits for."""
    kind = event.subject.split(".")[2:]
    if not _subject_matches(trigger.subject.split("."), kind):
        return False
    root = document(event)
    for path, expected in trigger.where.items():
        found = look_up(root, path)
        if found is None or not is_equal(found.value, expected):
            return False
    return True


def start(trigger: Trigger, event: Event, now: datetime) -> Started:
    """
    Return the task that the event starts; the same event, the same task id.

    Raises:
        PermanentFault: A path leads nowhere, or what it brings cannot be used.
    """
    root = document(event)
    goal = _filled(trigger, "goal", trigger.task.goal, root)
    if not goal:
        raise PermanentFault(f"{_at(trigger, 'goal')}: is empty when filled")
    data: Json = None
    if trigger.task.input is not None:
        data = _required(trigger, "input", trigger.task.input, root)
    brief = SubmitTask(
        task_id=derived_id("task", event.tenant, trigger.name, event.source, event.id),
        tenant=event.tenant,
        definition=plain(trigger.task.employee, goal),
        employee=trigger.task.employee,
        goal=goal,
        input=data,
        files=_files(trigger, root),
        submitted_at=now,
    )
    return Started(brief, f"{trigger.name}:{event.id}")


def _files(trigger: Trigger, root: JsonObject) -> tuple[TaskFile, ...]:
    files: dict[str, TaskFile] = {}
    for template, path in trigger.task.files.items():
        name = _filled(trigger, "files", template, root)
        value = _required(trigger, "files", path, root)
        try:
            file = TaskFile(
                name=name,
                content=_text(value),
                media_type=_TEXT_TYPE if isinstance(value, str) else _JSON_TYPE,
            )
        except ValidationError as cause:
            wrong = "; ".join(
                error["msg"] for error in cause.errors(include_input=False)
            )
            detail = f"{_at(trigger, 'files')}: {path} cannot be a file: {wrong}"
            raise PermanentFault(detail) from cause
        if name in files:
            raise PermanentFault(f"{_at(trigger, 'files')}: {name!r} comes twice")
        files[name] = file
    return tuple(files.values())


def _filled(trigger: Trigger, field: str, template: str, root: JsonObject) -> str:
    left = GOAL_CHARS_MAX - len(template)

    def fill(place: re.Match[str]) -> str:
        nonlocal left
        text = _text(_required(trigger, field, place[1], root))
        left -= len(text)
        if left < 0:  # at once: a few places could make a gigabyte of one event
            detail = f"{_at(trigger, field)}: has too many characters when filled; "
            raise PermanentFault(f"{detail}at most {GOAL_CHARS_MAX} are taken")
        return text

    return _PLACE.sub(fill, template)


def _required(trigger: Trigger, field: str, path: str, root: JsonObject) -> Json:
    found = look_up(root, path)
    if found is None:
        detail = f"{_at(trigger, field)}: the event has nothing at {path}; "
        raise PermanentFault(f"{detail}repair the event or the trigger, then replay")
    return found.value


def _at(trigger: Trigger, field: str) -> str:
    return f"trigger {trigger.name}, task.{field}"


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _subject_matches(pattern: list[str], subject: list[str]) -> bool:
    if pattern[-1] == ">":
        head = pattern[:-1]
        if len(subject) <= len(head):
            return False
        subject = subject[: len(head)]
        pattern = head
    return len(pattern) == len(subject) and all(
        expected in {"*", token}
        for expected, token in zip(pattern, subject, strict=True)
    )


def _faults(trigger: Trigger) -> Iterator[FieldError]:
    *others, last = trigger.subject.split(".")
    if any(_is_mixed(part) for part in (*others, last)) or ">" in others:
        yield FieldError(
            pointer="/subject",
            detail="a wildcard is a token of its own, and > is the last one",
        )
    for path in trigger.where:
        yield from _path_fault(f"/where/{path}", path)
    yield from _template_faults("/task/goal", trigger.task.goal)
    if trigger.task.input is not None:
        yield from _path_fault("/task/input", trigger.task.input)
    for name, path in trigger.task.files.items():
        pointer = f"/task/files/{name.replace('~', '~0').replace('/', '~1')}"
        yield from _template_faults(pointer, name)
        yield from _path_fault(pointer, path)


def _path_fault(pointer: str, path: str) -> Iterator[FieldError]:
    wrong = fault_in(path)
    if wrong is not None:
        yield FieldError(pointer=pointer, detail=f"{path}: {wrong}")


def _template_faults(pointer: str, template: str) -> Iterator[FieldError]:
    rest = _PLACE.sub("", template)
    if "{{" in rest or "}}" in rest:
        yield FieldError(pointer=pointer, detail="write places as {{ data.path }}")
    for place in _PLACE.finditer(template):
        yield from _path_fault(pointer, place[1])


def _is_mixed(part: str) -> bool:
    return part not in {"*", ">"} and not {"*", ">"}.isdisjoint(part)
