"""
Calls that neither an import rule nor ruff's banned-api can see.

A line that has to break one of these rules says why, on itself or just above it:
``# tidy: the crew owns its tasks and drains them``.
"""

import ast
import re
from typing import Final

import pytest

EXCUSE: Final = re.compile(r"#\s*tidy: \w+\W+\w+")
"""An excuse has at least two words."""

LOOP_SOURCES: Final = ("get_event_loop", "get_running_loop", "new_event_loop")
TIMER_CALLS: Final = ("call_at", "call_later", "time")
TASK_CALLS: Final = ("create_task", "ensure_future")
CANCELLATIONS: Final = ("CancelledError", "BaseException")
MOCKS: Final = ("mock", "mocker", "MagicMock", "AsyncMock")

DOORS: Final = ("libs/determinism/src/", "libs/testkit/src/")
"""Where time may be taken from the loop."""

ENVIRONMENT_READERS: Final = (
    "/settings.py",
    "/settings/",
    "cli/",
    "deploy/",
    "libs/testkit/",
    "tools/",
    "benchmarks/",
)
"""Where the process environment may be read; everything else is handed settings."""


def loop_timers(path: str, text: str) -> list[str]:
    """Return a violation for each time or timer that is taken from the event loop."""
    return [
        f"{path}:{call.lineno}: take a determinism.Clock, not the loop's {name}"
        for call, owner, name in method_calls(text)
        if name in TIMER_CALLS and is_loop(owner) and not is_excused(text, call.lineno)
    ]


def ownerless_tasks(path: str, text: str) -> list[str]:
    """Return a violation for each task that is started outside a TaskGroup."""
    return [
        f"{path}:{call.lineno}: start it in a TaskGroup, which owns it"
        for call, owner, name in method_calls(text)
        if name in TASK_CALLS
        and (is_loop(owner) or is_name(owner, "asyncio"))
        and not is_excused(text, call.lineno)
    ]


def swallowed_cancellations(path: str, text: str) -> list[str]:
    """Return a violation for each handler that catches cancellation and goes on."""
    return [
        f"{path}:{node.lineno}: raise the cancellation again"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ExceptHandler)
        and catches_cancellation(node.type)
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        and not is_excused(text, node.lineno)
    ]


def environment_reads(path: str, text: str) -> list[str]:
    """Return a violation for each look at the environment."""
    return [
        f"{path}:{node.lineno}: read it in settings.py, once"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and is_name(node.value, "os")
        and not is_excused(text, node.lineno)
    ]


def mocks(path: str, text: str) -> list[str]:
    """Return a violation for each mock or patch; fakes that pass a suite stay."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ImportFrom(module="unittest", names=names):
                hit = any(alias.name in MOCKS for alias in names)
            case ast.ImportFrom(module="unittest.mock"):
                hit = True
            case ast.Import(names=names):
                hit = any(alias.name == "unittest.mock" for alias in names)
            case ast.arg(arg="mocker"):
                hit = True
            case ast.Attribute(attr="setattr", value=ast.Name(id="monkeypatch")):
                hit = True
            case _:
                hit = False
        if hit:
            line = getattr(node, "lineno", 0)
            found.append(f"{path}:{line}: hand a fake to the port, patch nothing")
    return found


def is_excused(text: str, line: int) -> bool:
    """Say whether a line, counted from 1, or the one above it gives a reason."""
    near = text.splitlines()[max(line - 2, 0) : line]
    return any(EXCUSE.search(one) for one in near)


def method_calls(text: str) -> list[tuple[ast.Call, ast.expr, str]]:
    """Return the calls of a method: the call, what it is called on, its name."""
    return [
        (node, node.func.value, node.func.attr)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]


def is_loop(owner: ast.expr) -> bool:
    """Say whether an expression is an event loop, by its source or its name."""
    if isinstance(owner, ast.Call):
        function = owner.func
        name = function.attr if isinstance(function, ast.Attribute) else None
        return name in LOOP_SOURCES or is_name_in(function, LOOP_SOURCES)
    if isinstance(owner, ast.Attribute):
        return owner.attr.strip("_") == "loop"
    return is_name_in(owner, ("loop", "event_loop", "_loop"))


def is_name(node: ast.expr | None, name: str) -> bool:
    """Say whether an expression is just that name."""
    return isinstance(node, ast.Name) and node.id == name


def is_name_in(node: ast.expr, names: tuple[str, ...]) -> bool:
    """Say whether an expression is just one of those names."""
    return isinstance(node, ast.Name) and node.id in names


def catches_cancellation(caught: ast.expr | None) -> bool:
    """Say whether an ``except`` clause catches a cancelled task."""
    if caught is None:
        return True
    named = [caught, *(caught.elts if isinstance(caught, ast.Tuple) else [])]
    names = [n.attr if isinstance(n, ast.Attribute) else n for n in named]
    return any(
        n in CANCELLATIONS if isinstance(n, str) else is_name_in(n, CANCELLATIONS)
        for n in names
    )


def shipped(python: dict[str, str]) -> dict[str, str]:
    """Return the files that run in production."""
    return {
        path: text
        for path, text in python.items()
        if "/src/" in path and not path.startswith("libs/testkit/")
    }


def test_time_is_not_taken_from_the_loop(python: dict[str, str]) -> None:
    """The simulation's clock is the only one that a service sees."""
    inside = {p: t for p, t in shipped(python).items() if not p.startswith(DOORS)}
    assert [
        hit for path, text in inside.items() for hit in loop_timers(path, text)
    ] == []


def test_tasks_have_owners(python: dict[str, str]) -> None:
    """No task outlives, or fails behind the back of, what started it."""
    files = shipped(python).items()
    assert [hit for path, text in files for hit in ownerless_tasks(path, text)] == []


def test_cancellation_is_never_swallowed(python: dict[str, str]) -> None:
    """Whoever is told to stop stops."""
    files = shipped(python).items()
    found = [hit for path, text in files for hit in swallowed_cancellations(path, text)]
    assert found == []


def test_environment_is_read_in_settings_only(python: dict[str, str]) -> None:
    """A bad value stops the start, not the first request."""
    files = {
        path: text
        for path, text in shipped(python).items()
        if not any(part in path for part in ENVIRONMENT_READERS)
    }
    found = [
        hit for path, text in files.items() for hit in environment_reads(path, text)
    ]
    assert found == []


def test_nothing_is_mocked(python: dict[str, str]) -> None:
    """Fakes pass the suite of the real thing; a mock passes whatever it is told."""
    assert [hit for path, text in python.items() for hit in mocks(path, text)] == []


@pytest.mark.parametrize(
    "line",
    [
        "asyncio.get_running_loop().time()",
        "get_event_loop().call_later(1, f)",
        "self._loop.call_at(1, f)",
        "loop.time()",
    ],
)
def test_a_loop_timer_is_seen(line: str) -> None:
    """By whatever name the loop is reached."""
    assert len(loop_timers("a.py", line)) == 1
    assert loop_timers("a.py", "clock.time()") == []


@pytest.mark.parametrize(
    "line",
    [
        "asyncio.create_task(f())",
        "asyncio.ensure_future(f())",
        "asyncio.get_running_loop().create_task(f())",
        "loop.create_task(f())",
    ],
)
def test_an_ownerless_task_is_seen(line: str) -> None:
    """A TaskGroup's own create_task passes."""
    assert len(ownerless_tasks("a.py", line)) == 1
    assert ownerless_tasks("a.py", "group.create_task(f())") == []


@pytest.mark.parametrize(
    "clause",
    [
        "except asyncio.CancelledError",
        "except CancelledError",
        "except (ValueError, asyncio.CancelledError)",
        "except BaseException",
        "except",
    ],
)
def test_a_swallowed_cancellation_is_seen(clause: str) -> None:
    """However it is caught; raising again makes it right."""
    head = f"try:\n    f()\n{clause}:\n"
    assert len(swallowed_cancellations("a.py", f"{head}    pass")) == 1
    assert swallowed_cancellations("a.py", f"{head}    raise") == []
    assert (
        swallowed_cancellations("a.py", "try:\n    f()\nexcept OSError:\n    g()") == []
    )


@pytest.mark.parametrize("line", ["os.environ['A']", "os.getenv('A')"])
def test_an_environment_read_is_seen(line: str) -> None:
    """Both ways of reading count."""
    assert len(environment_reads("a.py", line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from unittest import mock",
        "from unittest.mock import patch",
        "import unittest.mock",
        "def test_x(mocker): ...",
        "monkeypatch.setattr(a, 'b', c)",
    ],
)
def test_a_mock_is_seen(line: str) -> None:
    """Setting a variable of the environment is no mock."""
    assert len(mocks("a.py", line)) == 1
    assert mocks("a.py", "monkeypatch.setenv('A', 'b')") == []


def test_an_excuse_needs_a_reason() -> None:
    """On the line or the one above; a bare marker excuses nothing."""
    line = "asyncio.create_task(f())"
    assert ownerless_tasks("a.py", f"# tidy: the crew owns it\n{line}") == []
    assert ownerless_tasks("a.py", f"{line}  # tidy: the crew owns it") == []
    assert len(ownerless_tasks("a.py", f"{line}  # tidy:")) == 1
    assert len(ownerless_tasks("a.py", f"# tidy: far away\n\n{line}")) == 1
