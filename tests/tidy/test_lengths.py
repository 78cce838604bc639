"""A file fits a few screens and a function fits one; line width is ruff's."""

import ast
from typing import Final

import pytest

FILE_LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 50
MAIN_LINES_MAX: Final = 20

Function = ast.FunctionDef | ast.AsyncFunctionDef


def long_file(path: str, text: str) -> list[str]:
    """Return the violation of a file that has outgrown its noun."""
    is_main = path.startswith("services/") and path.endswith("/__main__.py")
    limit = MAIN_LINES_MAX if is_main else FILE_LINES_MAX
    lines = len(text.splitlines())
    return [f"{path}: {lines} lines, {limit} at most"] if lines > limit else []


def long_functions(path: str, text: str) -> list[str]:
    """Return a violation for each function over the limit, docstring excluded."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function) and body_lines(node) > FUNCTION_LINES_MAX:
            limit = f"{body_lines(node)} lines, {FUNCTION_LINES_MAX} at most"
            found.append(f"{path}:{node.lineno}: {node.name} has {limit}")
    return found


def body_lines(function: Function) -> int:
    """Count the lines from ``def`` to the end, less the docstring's."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return total
    docstring = function.body[0]
    return total - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def test_files_are_short(python: dict[str, str]) -> None:
    """No Python file is longer than 400 lines, no service's main than 20."""
    found = [hit for path, text in python.items() for hit in long_file(path, text)]
    assert found == []


def test_functions_are_short(python: dict[str, str]) -> None:
    """No function is longer than 50 lines, its docstring not counted."""
    found = [hit for path, text in python.items() for hit in long_functions(path, text)]
    assert found == []


@pytest.mark.parametrize(
    ("path", "lines", "allowed"),
    [
        ("libs/a/src/a/b.py", 400, True),
        ("libs/a/src/a/b.py", 401, False),
        ("services/a/src/a/__main__.py", 20, True),
        ("services/a/src/a/__main__.py", 21, False),
    ],
)
def test_a_line_too_many_is_seen(path: str, lines: int, *, allowed: bool) -> None:
    """The limits themselves pass, one more line does not."""
    assert (long_file(path, "x = 1\n" * lines) == []) == allowed


@pytest.mark.parametrize("docstring", ["", '    """\n    One.\n\n    Two.\n    """\n'])
def test_a_long_function_is_seen_whatever_its_docstring(docstring: str) -> None:
    """The docstring neither saves a function nor condemns it."""
    head = f"async def f():\n{docstring}"
    assert long_functions("a.py", head + "    x = 1\n" * 49) == []
    assert len(long_functions("a.py", head + "    x = 1\n" * 50)) == 1
