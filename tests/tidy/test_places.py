"""Nothing in the repository depends on where or from where it was made."""

import re
from typing import Final

import pytest

# Written in pieces, so that this file is clean by its own rule.
INDEX_HOSTS: Final = tuple(
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
    )
)
HOST: Final = re.compile("|".join(re.escape(host) for host in INDEX_HOSTS))

# A slash that starts a path, not one inside a URL or a relative path.
MACHINE_PATH: Final = re.compile(r"(?<![\w./}*)-])/(?:work|root|Users|home)/\w")
FOREIGN_LOCKS: Final = ("uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock")


def hosts(path: str, text: str) -> list[str]:
    """Return a violation for each line that names a package index."""
    return lines_with(HOST, path, text, "names a package index")


def machine_paths(path: str, text: str) -> list[str]:
    """Return a violation for each line that names a folder of some machine."""
    return lines_with(MACHINE_PATH, path, text, "names a folder of one machine")


def foreign_lock(path: str) -> list[str]:
    """Return the violation of a lock file that records where it downloaded from."""
    if path.rsplit("/", 1)[-1] in FOREIGN_LOCKS:
        return [f"{path}: requirements.lock is the lock"]
    return []


def lines_with(
    pattern: re.Pattern[str], path: str, text: str, reason: str
) -> list[str]:
    """Return the lines that a pattern is found in."""
    return [
        f"{path}:{number}: {reason}"
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_package_index_is_named(sources: dict[str, str]) -> None:
    """Whoever installs brings their own index."""
    assert [hit for path, text in sources.items() for hit in hosts(path, text)] == []


def test_no_machine_is_named(sources: dict[str, str]) -> None:
    """A checkout works in any folder."""
    found = [hit for path, text in sources.items() for hit in machine_paths(path, text)]
    assert found == []


def test_no_second_lock(paths: tuple[str, ...]) -> None:
    """There is one lock, and it names no host."""
    assert [hit for path in paths for hit in foreign_lock(path)] == []


@pytest.mark.parametrize("host", INDEX_HOSTS)
def test_an_index_host_is_seen(host: str) -> None:
    """Each host is found, with and without a scheme or subdomain."""
    assert len(hosts("a", f"fine\nhttps://files.{host}/x\n{host}\n")) == 2


@pytest.mark.parametrize(
    ("before", "seen"),
    [("", True), ('"', True), ("cd ", True), ("=", True), ("https://a.b", False)],
)
@pytest.mark.parametrize("folder", ["work", "root", "home", "Users"])
def test_a_machine_path_is_seen(folder: str, before: str, *, seen: bool) -> None:
    """A path from the root is found; the same words in a URL are not."""
    line = f"{before}/{folder}/somebody"
    assert (machine_paths("a", line) != []) == seen


def test_a_second_lock_is_seen() -> None:
    """Wherever it lies."""
    assert len(foreign_lock("services/a/uv.lock")) == 1
    assert foreign_lock("requirements.lock") == []
