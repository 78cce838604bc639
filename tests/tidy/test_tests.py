"""A test promises behaviour, checks it, always runs, and waits for conditions."""

import ast
from typing import Final

import pytest

Function = ast.FunctionDef | ast.AsyncFunctionDef

CHECKING_PREFIXES: Final = ("assert_", "check_", "expect_", "verify_")
"""Functions of a suite that assert in the test's stead."""

PYTEST_CHECKS: Final = ("raises", "warns", "fail")
EVASIONS: Final = ("skip", "skipif", "xfail", "importorskip", "skipUnless", "skipIf")
SLEEPERS: Final = ("anyio", "asyncio", "time", "trio")


def without_promise(path: str, text: str) -> list[str]:
    """Return a violation for each test without a docstring."""
    return [
        f"{path}:{test.lineno}: {test.name} promises nothing; give it a docstring"
        for test in written_tests(text)
        if not ast.get_docstring(test)
    ]


def without_check(path: str, text: str) -> list[str]:
    """Return a violation for each test that cannot fail by what it finds."""
    return [
        f"{path}:{test.lineno}: {test.name} checks nothing"
        for test in written_tests(text)
        if not any(is_check(node) for node in ast.walk(test))
    ]


def evasions(path: str, text: str) -> list[str]:
    """Return a violation for each skip or expected failure."""
    return [
        f"{path}:{node.lineno}: a test runs everywhere or is deleted"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and node.attr in EVASIONS
        and root_name(node) in {"pytest", "unittest", "mark"}
    ]


def sleeps(path: str, text: str) -> list[str]:
    """Return a violation for each sleep; a zero only lets other tasks run."""
    tree = ast.parse(text)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in SLEEPERS
        for alias in node.names
        if alias.name == "sleep"
    }
    return [
        f"{path}:{node.lineno}: wait for a condition with a deadline"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and is_sleep(node.func, imported)
        and not is_zero(node)
    ]


def written_tests(text: str) -> list[Function]:
    """Return the test functions of a module, those of its classes included."""
    return [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, Function) and node.name.startswith("test_")
    ]


def is_check(node: ast.AST) -> bool:
    """Say whether a node can fail a test: an assert, or a call that asserts."""
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    match node.func:
        case ast.Attribute(attr=name, value=ast.Name(id="pytest")):
            return name in PYTEST_CHECKS
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name.lstrip("_").startswith(CHECKING_PREFIXES)
        case _:
            return False


def is_sleep(function: ast.expr, imported: set[str]) -> bool:
    """Say whether a call waits for real time."""
    if isinstance(function, ast.Name):
        return function.id in imported
    if not isinstance(function, ast.Attribute):
        return False
    return function.attr == "sleep" and root_name(function) in SLEEPERS


def is_zero(call: ast.Call) -> bool:
    """Say whether a sleep is of no length."""
    match call.args:
        case [ast.Constant(value=0)]:
            return True
        case _:
            return False


def root_name(node: ast.expr) -> str:
    """Return the first name of a dotted expression."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


@pytest.fixture(scope="module")
def tests(python: dict[str, str]) -> dict[str, str]:
    """Return the test modules and the suites that they inherit."""
    return {
        path: text
        for path, text in python.items()
        if "/tests/" in f"/{path}" or path.startswith("libs/testkit/")
    }


def test_every_test_promises(tests: dict[str, str]) -> None:
    """Reading the docstrings tells what the platform guarantees."""
    found = [hit for path, text in tests.items() for hit in without_promise(path, text)]
    assert found == []


def test_every_test_checks(tests: dict[str, str]) -> None:
    """No test passes merely by ending."""
    found = [hit for path, text in tests.items() for hit in without_check(path, text)]
    assert found == []


def test_no_test_is_evaded(tests: dict[str, str]) -> None:
    """What is written is run, on every machine."""
    assert [hit for path, text in tests.items() for hit in evasions(path, text)] == []


def test_no_test_sleeps(python: dict[str, str]) -> None:
    """A slow machine fails no test, a fast one waits for nothing."""
    inside = {path: text for path, text in python.items() if "/tests/" in f"/{path}"}
    assert [hit for path, text in inside.items() for hit in sleeps(path, text)] == []


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_test_without_promise_or_check_is_seen(kind: str) -> None:
    """Both faults are found, and neither in a whole test."""
    bare = f"{kind} test_x():\n    f()\n"
    whole = f'{kind} test_x():\n    """It holds."""\n    assert f()\n'
    assert len(without_promise("a.py", bare)) == 1
    assert len(without_check("a.py", bare)) == 1
    assert without_promise("a.py", whole) == []
    assert without_check("a.py", whole) == []


@pytest.mark.parametrize(
    "line",
    [
        "with pytest.raises(E): f()",
        "pytest.fail('x')",
        "suite.check_all(f)",
        "expect_x()",
    ],
)
def test_a_check_may_be_a_call(line: str) -> None:
    """Pytest's own checks count, and so does a suite's function that asserts."""
    assert without_check("a.py", f"def test_x():\n    {line}\n") == []


@pytest.mark.parametrize(
    "line",
    [
        "pytest.skip('no server')",
        "pytest.importorskip('x')",
        "@pytest.mark.xfail\ndef test_x(): ...",
        "pytestmark = pytest.mark.skipif(True)",
    ],
)
def test_an_evasion_is_seen(line: str) -> None:
    """By call, mark or module."""
    assert len(evasions("a.py", line)) == 1


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("time.sleep(1)", True),
        ("async def f():\n    await asyncio.sleep(0.1)", True),
        ("from asyncio import sleep as nap\nnap(1)", True),
        ("asyncio.sleep(0)", False),
        ("clock.sleep(5)", False),
    ],
)
def test_a_sleep_is_seen(text: str, *, seen: bool) -> None:
    """Real time counts; a simulated clock and a bare yield do not."""
    assert (sleeps("a.py", text) != []) == seen
