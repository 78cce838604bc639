"""
Make .venv from requirements.lock; the wrapper ``./just`` runs this when needed.

Only the standard library is at hand here. The steps are: take the lock file that
keeps two first calls apart, look again (the other call may have done it), remove
the stamp, install, write the stamp. A run that dies leaves no stamp, so the next
one starts over; the kernel drops the lock with the process, so none is ever stale.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
VENV: Final = ROOT / ".venv"
PYTHON: Final = VENV / "bin" / "python"
LOCK: Final = ROOT / "requirements.lock"
# A copy of what .venv was made from; `./just` compares it on every call.
MADE_FROM: Final = VENV / "made-from"

SOURCES: Final = (
    "libs/bounded/src",
    "libs/contracts/src",
    "libs/determinism/src",
    "libs/faults/src",
    "libs/messaging/src",
    "libs/persistence/src",
    "libs/pricing/src",
    "libs/sandbox/src",
    "libs/telemetry/src",
    "libs/testkit/src",
    "services/agent-runtime/src",
    "services/ai-broker/src",
    "services/billing-meter/src",
    "services/gateway/src",
    "services/orchestrator/src",
    "cli/src",
    "deploy/embedded/src",
    "deploy/nats/src",
)
"""Every folder that holds packages; tests/tidy compares it with the tree."""

BOOTSTRAP: Final = ("setuptools", "uv")
"""What has to be there first: the builder of source releases, and the installer."""

DECTL: Final = """\
#!/bin/sh
exec "$(dirname -- "$0")/python" -m cli "$@"
"""


def main() -> None:
    """Install once, however many calls arrive together."""
    interpreter = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    try:
        with (ROOT / ".venv.lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            # Children keep it too: an orphaned installer still bars the next.
            os.set_inheritable(guard.fileno(), True)  # noqa: FBT003 -- positional only
            if not is_made_from(interpreter):
                install(interpreter)
    except subprocess.CalledProcessError as failure:
        stop(f"installing failed: {describe(failure)}. Is a package index reachable?")
    except OSError as failure:
        stop(f"cannot make {VENV}: {failure}")


def is_made_from(interpreter: str) -> bool:
    """Say whether another call has just finished the same work."""
    try:
        return (
            (MADE_FROM / "place").read_text() == place(interpreter)
            and (MADE_FROM / LOCK.name).read_bytes() == LOCK.read_bytes()
            and (MADE_FROM / "install.py").read_bytes() == Path(__file__).read_bytes()
        )
    except FileNotFoundError:
        return False


def install(interpreter: str) -> None:
    """Bring .venv in line with the lock, anew unless only the lock has changed."""
    # Read before installing: an edit made meanwhile must show as a difference.
    lock, installer = LOCK.read_bytes(), Path(__file__).read_bytes()
    in_place = is_movable_forward(interpreter)
    say(f"{'updating' if in_place else 'making'} .venv from {LOCK.name} …")
    shutil.rmtree(MADE_FROM, ignore_errors=True)
    if not in_place:
        venv.create(VENV, clear=True, with_pip=True, symlinks=True)
    install_packages()
    write_launchers()
    partial = VENV / "made-from.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / LOCK.name).write_bytes(lock)
    (partial / "install.py").write_bytes(installer)
    (partial / "place").write_text(place(interpreter))
    partial.rename(MADE_FROM)  # atomic: the stamp is whole or absent
    say("done")


def is_movable_forward(interpreter: str) -> bool:
    """Say whether a finished .venv of this place and interpreter stands there."""
    try:
        stamped = (MADE_FROM / "place").read_text()
    except FileNotFoundError:
        return False
    return stamped == place(interpreter) and PYTHON.exists()


def place(interpreter: str) -> str:
    """Return what a .venv is bound to: scripts in it hold absolute paths."""
    return f"{ROOT}\n{interpreter}\n"


def install_packages() -> None:
    """
    Install the lock with uv, which takes seconds, or else with pip.

    pip is there for mirrors that only pip.conf knows. Nothing is built in
    isolation, since that would fetch a build tool that no hash guards.
    """
    first = VENV / "bootstrap.lock"
    first.write_text(section(LOCK.read_text(), BOOTSTRAP))
    exact = ["--require-hashes", "--no-deps"]
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", *exact]
    run([*pip, "--requirement", str(first)])
    uv = [str(VENV / "bin" / "uv"), "pip", "sync", "--quiet", "--python", str(PYTHON)]
    home = os.environ.get("HOME", "")
    cache = [] if os.access(home, os.W_OK) else ["--no-cache"]
    built = ["--require-hashes", "--no-build-isolation"]
    try:
        run([*uv, *cache, *built, str(LOCK)])
    except subprocess.CalledProcessError:
        say("uv could not; trying pip, which takes longer …")
        run([*pip, "--no-build-isolation", "--requirement", str(LOCK)])


def section(lock: str, names: tuple[str, ...]) -> str:
    """Return the lines of a lock that belong to the named packages."""
    kept: list[str] = []
    keeping = False
    for line in lock.splitlines(keepends=True):
        if line[:1] not in {" ", "#", "\n"}:
            keeping = line.split("==")[0] in names
        if keeping:
            kept.append(line)
    return "".join(kept)


def write_launchers() -> None:
    """Put the sources on the path, and ``dectl`` beside the tools."""
    major, minor = sys.version_info[:2]
    packages = VENV / "lib" / f"python{major}.{minor}" / "site-packages"
    lines = "".join(f"{ROOT / source}\n" for source in SOURCES)
    (packages / "digital_employee.pth").write_text(lines)
    launcher = VENV / "bin" / "dectl"
    launcher.write_text(DECTL)
    launcher.chmod(0o755)


def run(command: list[str]) -> None:
    """Run an installer in an environment that cannot send it elsewhere."""
    # PIP_USER and an active venv would both install outside .venv.
    dropped = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV", "PYTHONPATH"}
    environment = {k: v for k, v in os.environ.items() if k not in dropped}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, close_fds=False)


def describe(failure: subprocess.CalledProcessError) -> str:
    """Name the command that failed, without its arguments."""
    return f"{Path(failure.cmd[0]).name} ended with {failure.returncode}"


def say(text: str) -> None:
    """Tell the person waiting; stdout belongs to the recipe."""
    sys.stderr.write(f"./just: {text}\n")


def stop(reason: str) -> NoReturn:
    """Leave with the reason."""
    say(reason)
    sys.exit(1)


if __name__ == "__main__":
    main()
