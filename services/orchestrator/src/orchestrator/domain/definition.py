"""
Workflow definitions: the CNCF Serverless Workflow DSL 1.0, as far as it runs here.

A document becomes a tree of tasks, each with the JSON pointer that names its place
(``/do/0/work``), or a problem that names the pointer of what cannot be run. What
runs today is a sequence of ``call: employee``; another kind of task is one more
class in ``Task``, one more branch in ``_task`` and one more in the reducer.

    document: {dsl: 1.0.0, namespace: default, name: clerk, version: 1.0.0}
    do:
      - work:
          call: employee
          with: {employee: clerk, goal: File the invoice., input: {number: 7}}
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from contracts.ids import NAME_PATTERN
from contracts.message import Json, JsonObject
from contracts.problems import Code, FieldError, Problem, problem
from orchestrator.domain.document import digest

TASKS_MAX: Final = 1000
GOAL_CHARS_MAX: Final = 262_144
NAME_CHARS_MAX: Final = 128

_DSL: Final = re.compile(r"^1\.0\.\d{1,6}$")
_VERSION: Final = re.compile(r"^\d{1,6}\.\d{1,6}\.\d{1,6}([-+][0-9A-Za-z.+-]{1,64})?$")
_LABEL: Final = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_EMPLOYEE: Final = re.compile(NAME_PATTERN)
_EXPRESSION: Final = re.compile(r"^\s*\$\{.*\}\s*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CallEmployee:
    """Hand a goal to an employee; its output is the next task's input."""

    pointer: str
    """``/do/0/work``."""
    name: str
    employee: str
    goal: str
    has_input: bool
    """Whether ``with.input`` is given; without it, what came before is the input."""
    input: Json


# A union, once the language grows: Set, Switch, For, Fork, Try, Wait, Listen, …
Task = CallEmployee


@dataclass(frozen=True, slots=True)
class Definition:
    """A checked workflow."""

    namespace: str
    name: str
    version: str
    digest: str
    """SHA-256 of the canonical document; a run is pinned to it."""
    tasks: tuple[Task, ...]

    def after(self, pointer: str) -> Task | None:
        """Return the task that follows the one at the pointer; None at the end."""
        places = [task.pointer for task in self.tasks]
        following = places.index(pointer) + 1
        return self.tasks[following] if following < len(self.tasks) else None


def plain(employee: str, goal: str) -> JsonObject:
    """Return the definition of a plain task: one goal for one employee."""
    call: JsonObject = {
        "call": "employee",
        "with": {"employee": employee, "goal": goal},
    }
    return {
        "document": {
            "dsl": "1.0.0",
            "namespace": "default",
            "name": employee,
            "version": "1.0.0",
        },
        "do": [{"work": call}],
    }


def parse(document: JsonObject, *, is_literal: bool = False) -> Definition | Problem:
    """
    Check a document and return its tree, or the problem with a pointer.

    Args:
        document: A Serverless Workflow document.
        is_literal: Take ``${ … }`` as words, not as a runtime expression: the goal
            of a plain task is what its user typed.
    """
    try:
        return _definition(document, is_literal=is_literal)
    except _Wrong as wrong:
        return problem(
            Code.INVALID,
            f"The workflow cannot be run: {wrong.pointer or '/'}: {wrong.detail}",
            instance=wrong.pointer,
            errors=(FieldError(pointer=wrong.pointer, detail=wrong.detail),),
        )


class _Wrong(Exception):
    """Something at a pointer cannot be run; caught by ``parse`` alone."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.detail = detail


def _definition(document: JsonObject, *, is_literal: bool) -> Definition:
    _only(document, {"document", "do"}, "")
    head = _object(document.get("document"), "/document")
    _only(head, _HEAD_FIELDS, "/document")
    _match(head.get("dsl"), "/document/dsl", _DSL, "a DSL version 1.0.x")
    tasks = document.get("do")
    if not isinstance(tasks, list) or not 1 <= len(tasks) <= TASKS_MAX:
        raise _Wrong("/do", f"give a list of 1 to {TASKS_MAX} tasks")
    return Definition(
        namespace=_match(
            head.get("namespace"), "/document/namespace", _LABEL, _LABEL_WORDS
        ),
        name=_match(head.get("name"), "/document/name", _LABEL, _LABEL_WORDS),
        version=_match(
            head.get("version"), "/document/version", _VERSION, "a version like 1.0.0"
        ),
        digest=digest(document),
        tasks=tuple(
            _task(entry, f"/do/{index}", is_literal=is_literal)
            for index, entry in enumerate(tasks)
        ),
    )


_HEAD_FIELDS: Final = frozenset(
    {"dsl", "namespace", "name", "version", "title", "summary", "tags", "metadata"}
)
_LABEL_WORDS: Final = "lower-case letters, digits and dashes, at most 63"


def _task(entry: Json, place: str, *, is_literal: bool) -> Task:
    named = _object(entry, place)
    if len(named) != 1:
        raise _Wrong(place, "give an object with one key, the task's name")
    name, body = next(iter(named.items()))
    if not 1 <= len(name) <= NAME_CHARS_MAX:
        raise _Wrong(place, f"name the task with 1 to {NAME_CHARS_MAX} characters")
    pointer = f"{place}/{_escaped(name)}"
    task = _object(body, pointer)
    if "call" not in task:
        kinds = ", ".join(sorted(task)) or "nothing"
        raise _Wrong(
            pointer, f"only `call: employee` tasks are run yet; this has {kinds}"
        )
    if task["call"] != "employee":
        raise _Wrong(f"{pointer}/call", "only the function `employee` is run yet")
    _only(task, {"call", "with", "metadata"}, pointer)
    return _call_employee(task.get("with"), pointer, name, is_literal=is_literal)


def _call_employee(
    value: Json, pointer: str, name: str, *, is_literal: bool
) -> CallEmployee:
    place = f"{pointer}/with"
    arguments = _object(value, place)
    _only(arguments, {"employee", "goal", "input"}, place)
    employee = _match(
        arguments.get("employee"), f"{place}/employee", _EMPLOYEE, "an employee's name"
    )
    goal = arguments.get("goal")
    if not isinstance(goal, str) or not 1 <= len(goal) <= GOAL_CHARS_MAX:
        raise _Wrong(
            f"{place}/goal", f"give the goal in 1 to {GOAL_CHARS_MAX} characters"
        )
    if not is_literal:
        _refuse_expressions(goal, f"{place}/goal")
    _refuse_expressions(arguments.get("input"), f"{place}/input")
    return CallEmployee(
        pointer=pointer,
        name=name,
        employee=employee,
        goal=goal,
        has_input="input" in arguments,
        input=arguments.get("input"),
    )


def _refuse_expressions(value: Json, pointer: str) -> None:
    if isinstance(value, str):
        if _EXPRESSION.match(value):
            raise _Wrong(pointer, "runtime expressions (${ … }) are not run yet")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_expressions(item, f"{pointer}/{index}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_expressions(item, f"{pointer}/{_escaped(key)}")


def _object(value: Json, pointer: str) -> JsonObject:
    if not isinstance(value, dict):
        raise _Wrong(pointer, "give an object here")
    return value


def _only(value: JsonObject, known: Collection[str], pointer: str) -> None:
    for key in value:
        if key not in known:
            expected = ", ".join(sorted(known))
            place = f"{pointer}/{_escaped(key)}"
            raise _Wrong(place, f"this is not run yet; known here: {expected}")


def _match(value: Json, pointer: str, form: re.Pattern[str], words: str) -> str:
    if not isinstance(value, str) or form.match(value) is None:
        raise _Wrong(pointer, f"give {words}")
    return value


def _escaped(key: str) -> str:
    """Escape a key as RFC 6901 wants it in a pointer."""
    return key.replace("~", "~0").replace("/", "~1")
