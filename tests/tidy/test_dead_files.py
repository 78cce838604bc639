"""No module is left behind that nothing uses."""

import ast
import re
from typing import Final

MODULE: Final = re.compile(r"(?:(?:libs|services|deploy)/[^/]+|cli)/src/(.+)\.py$")
ENTRIES: Final = ("__main__", "__init__")


def modules(paths: list[str]) -> dict[str, str]:
    """Return dotted name to path, less the modules that Python itself starts."""
    found: dict[str, str] = {}
    for path in paths:
        if (match := MODULE.match(path)) and not match[1].endswith(ENTRIES):
            found[match[1].replace("/", ".")] = path
    return found


def imported(text: str) -> set[str]:
    """Return every dotted name that a module may import, or names in a string."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                found.add(module)
                found.update(f"{module}.{alias.name}" for alias in names)
            case ast.Constant(value=str(value)):
                found.update(re.findall(r"\w+(?:\.\w+)+", value))
            case _:
                continue
    return found


def dead(python: dict[str, str], others: dict[str, str]) -> list[str]:
    """
    Return a violation for each module that nothing but itself mentions.

    Args:
        python: Path to text of the Python files.
        others: Path to text of what may start a module: recipes, manifests.
    """
    known = modules(list(python))
    used: set[str] = set()
    for path, text in python.items():
        used |= {name for name in imported(text) if known.get(name) != path}
    for text in others.values():
        used |= set(re.findall(r"(?<=-m )\w+(?:\.\w+)+", text))
    return [
        f"{path}: nothing imports it"
        for name, path in known.items()
        if name not in used
    ]


def test_every_module_is_used(python: dict[str, str], sources: dict[str, str]) -> None:
    """What no one imports, names or starts is deleted."""
    others = {path: text for path, text in sources.items() if path not in python}
    assert dead(python, others) == []


def test_a_dead_module_is_seen() -> None:
    """A module that is imported, named in a string or started is alive."""
    python = {
        "libs/a/src/a/__init__.py": "from a import one\nimport a.two\nrun('a.three')",
        "libs/a/src/a/one.py": "",
        "libs/a/src/a/two.py": "",
        "libs/a/src/a/three.py": "",
        "libs/a/src/a/four.py": "",
        "libs/a/src/a/five.py": "import a.five",
    }
    assert dead(python, {"justfile": "python -m a.four"}) == [
        "libs/a/src/a/five.py: nothing imports it"
    ]
