"""
Import each service with only what it and its libraries declare.

The shared .venv holds every package, so an undeclared dependency goes unnoticed
there and fails in the image. Here each service gets an environment of its own, at
the versions of requirements.lock, and every one of its modules is imported.

    ./just isolate            # every service
    ./just isolate gateway    # one
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements.lock"
OURS: Final = ("de-", "digital-employee-")

IMPORT_ALL: Final = """\
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


@dataclass
class Closure:
    """What a package needs, directly and through its libraries."""

    sources: set[Path] = field(default_factory=set[Path])
    requirements: set[str] = field(default_factory=set[str])


def main() -> int:
    """Import the named services, or all; return how many failed."""
    manifests = {
        str(project["name"]): (path.parent, project)
        for path in sorted(ROOT.glob("*/*/pyproject.toml"))
        for project in [tomllib.loads(path.read_text())["project"]]
    }
    wanted = sys.argv[1:] or sorted(
        folder.name
        for folder, _ in manifests.values()
        if folder.parent.name == "services"
    )
    failed = [name for name in wanted if not imports_alone(name, manifests)]
    return len(failed)


# Any: a manifest is whatever TOML holds; closure_of reads two of its keys.
def closure_of(name: str, manifests: dict[str, tuple[Path, dict[str, Any]]]) -> Closure:
    """Return the source folders and outside requirements of a package."""
    closure = Closure()
    waiting = [name]
    while waiting:
        folder, project = manifests[waiting.pop()]
        if folder / "src" in closure.sources:
            continue
        closure.sources.add(folder / "src")
        for requirement in project.get("dependencies", []):
            if requirement in manifests:
                waiting.append(requirement)
            else:
                closure.requirements.add(requirement)
    return closure


def imports_alone(
    service: str, manifests: dict[str, tuple[Path, dict[str, Any]]]
) -> bool:
    """Say whether every module of a service imports in its own environment."""
    if f"de-{service}" not in manifests:
        print(f"{service}: services/{service}/pyproject.toml names no de-{service}")
        return False
    closure = closure_of(f"de-{service}", manifests)
    # Our own names never go to an index, where a stranger may have taken them.
    if absent := sorted(r for r in closure.requirements if r.startswith(OURS)):
        print(f"{service}: no pyproject.toml names {', '.join(absent)}")
        return False
    with tempfile.TemporaryDirectory() as folder:
        python = make_environment(Path(folder), closure.requirements)
        path = os.pathsep.join(str(source) for source in sorted(closure.sources))
        answer = subprocess.run(
            [python, "-c", IMPORT_ALL, service.replace("-", "_")],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
        )
    last_line = answer.stderr.strip().rpartition("\n")[2]
    print(f"{service}: {last_line if answer.returncode else 'imports alone'}")
    return answer.returncode == 0


def make_environment(folder: Path, requirements: set[str]) -> Path:
    """Return the interpreter of a new environment that holds the requirements."""
    python = folder / "venv" / "bin" / "python"
    listed = folder / "requirements.in"
    listed.write_text("\n".join(sorted(requirements)))
    uv = [str(Path(sys.executable).parent / "uv"), "--quiet"]
    subprocess.run(
        [*uv, "venv", "--python", sys.executable, str(folder / "venv")], check=True
    )
    # Versions, and the build tool's version, are those of the lock.
    pinned = ["--constraint", str(LOCK), "--build-constraint", str(LOCK)]
    install = [*uv, "pip", "install", "--python", str(python), *pinned]
    subprocess.run([*install, "--requirement", str(listed)], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
