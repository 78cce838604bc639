"""What tidy looks at: every file that is tracked, or would be by `git add`."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def paths() -> tuple[str, ...]:
    """Return the files that git knows or does not ignore, relative to the root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 -- whichever git the checkout was made with
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = sorted({name for name in listing.split("\0") if name})
    return tuple(name for name in names if (ROOT / name).is_file())


@pytest.fixture(scope="session")
def sources(paths: tuple[str, ...]) -> dict[str, str]:
    """Return path to text, of the files that hold text."""
    found: dict[str, str] = {}
    for path in paths:
        data = (ROOT / path).read_bytes()
        if b"\0" not in data:
            found[path] = data.decode(errors="replace")
    return found


@pytest.fixture(scope="session")
def python(sources: dict[str, str]) -> dict[str, str]:
    """Return path to text, of the Python files."""
    return {path: text for path, text in sources.items() if path.endswith(".py")}
