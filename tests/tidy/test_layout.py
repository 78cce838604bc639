"""The tree says what it is: services share a shape, and the lists agree with it."""

import ast
import configparser
import re
from pathlib import Path
from typing import Final

import pytest

VAGUE_NAMES: Final = ("base", "common", "core", "helpers", "utils")

SERVICE_NAMES: Final = (
    "__main__.py",
    "app.py",
    "settings.py",
    "entrypoints",
    "handlers",
    "ports",
    "domain",
    "adapters",
)
"""The eight names; handlers and ports are modules or, once they grow, folders."""

SOURCE_FOLDER: Final = re.compile(
    r"((?:(?:libs|services|deploy)/[^/]+|cli)/src)/([^/]+)/"
)


def vague_names(path: str) -> list[str]:
    """Return a violation for each folder or module whose name says nothing."""
    parts = [part.removesuffix(".py").strip("_") for part in path.split("/")]
    singular = [re.sub(r"^(util|helper)$", r"\1s", part) for part in parts]
    return [f"{path}: '{part}' is no noun" for part in singular if part in VAGUE_NAMES]


def missing_service_names(paths: tuple[str, ...]) -> list[str]:
    """Return a violation for each of the eight names that a service lacks."""
    inside: dict[str, set[str]] = {}
    for path in paths:
        if match := re.match(r"(services/[^/]+/src/[^/]+)/([^/]+)", path):
            inside.setdefault(match[1], set()).add(match[2])
    return [
        f"{service} lacks {name}"
        for service, names in sorted(inside.items())
        for name in SERVICE_NAMES
        if name not in names and f"{name}.py" not in names
    ]


def source_folders(paths: tuple[str, ...]) -> set[str]:
    """Return the folders that hold packages."""
    matches = (SOURCE_FOLDER.match(path) for path in paths)
    return {match[1] for match in matches if match}


def packages(paths: tuple[str, ...]) -> set[str]:
    """Return the packages' names."""
    matches = (SOURCE_FOLDER.match(path) for path in paths)
    return {match[2] for match in matches if match}


def disagreements(listed: set[str], present: set[str]) -> list[str]:
    """Return what a list has too much, and what it lacks."""
    extra = [f"{name} is listed, yet absent" for name in sorted(listed - present)]
    return extra + [f"{name} is not listed" for name in sorted(present - listed)]


def linted_packages(text: str) -> set[str]:
    """Return the root packages of an import-linter configuration."""
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return set(parser["importlinter"]["root_packages"].split())


def installed_folders(text: str) -> set[str]:
    """Return what the installer puts on the path."""
    for node in ast.parse(text).body:
        match node:
            case ast.AnnAssign(
                target=ast.Name(id="SOURCES"), value=ast.expr() as value
            ):
                return set(ast.literal_eval(value))
            case _:
                continue
    return set()


def test_no_name_is_vague(python: dict[str, str]) -> None:
    """No module or folder is called utils, common, core, helpers or base."""
    assert [hit for path in python for hit in vague_names(path)] == []


def test_services_share_eight_names(paths: tuple[str, ...]) -> None:
    """A reader who knows one service finds their way in the other four."""
    assert missing_service_names(paths) == []


def test_services_have_a_readme(root: Path, paths: tuple[str, ...]) -> None:
    """Every service says on one screen what goes in and out."""
    services = {path.split("/")[1] for path in paths if path.startswith("services/")}
    assert [
        name for name in services if f"services/{name}/README.md" not in paths
    ] == []


def test_import_rules_cover_every_package(root: Path, paths: tuple[str, ...]) -> None:
    """A package that import-linter does not know could import anything."""
    listed = linted_packages((root / ".importlinter").read_text())
    assert disagreements(listed, packages(paths)) == []


def test_installer_knows_every_source_folder(
    root: Path, paths: tuple[str, ...]
) -> None:
    """A folder that the installer does not know cannot be imported elsewhere."""
    listed = installed_folders((root / "tools" / "install.py").read_text())
    assert disagreements(listed, source_folders(paths)) == []


@pytest.mark.parametrize(
    "path",
    ["libs/a/src/a/utils.py", "libs/common/src/x.py", "a/_base.py", "a/helper.py"],
)
def test_a_vague_name_is_seen(path: str) -> None:
    """Folders, modules, private modules and the singular all count."""
    assert len(vague_names(path)) == 1


def test_a_missing_name_is_seen() -> None:
    """Nothing but what is there is taken for granted."""
    whole = tuple(f"services/a/src/a/{name}" for name in SERVICE_NAMES)
    assert missing_service_names(whole) == []
    assert missing_service_names(whole[1:]) == ["services/a/src/a lacks __main__.py"]


def test_a_package_missing_from_a_list_is_seen() -> None:
    """Both directions count: too much and too little."""
    paths = ("libs/a/src/a/x.py", "cli/src/cli/y.py", "libs/a/tests/test_x.py")
    assert source_folders(paths) == {"libs/a/src", "cli/src"}
    listed = linted_packages("[importlinter]\nroot_packages =\n    a\n    b\n")
    assert disagreements(listed, packages(paths)) == [
        "b is listed, yet absent",
        "cli is not listed",
    ]
    assert installed_folders('SOURCES: Final = ("x", "y")') == {"x", "y"}
