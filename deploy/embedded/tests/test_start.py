"""A start costs what it must: bytecode is kept, and nobody imports for another."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embedded.state import ROOT

SHARED = "alembic asyncpg genai_prices grpc httpx openai anthropic opentelemetry.sdk"
"""What no service imports at its start; some import it when a call needs it."""
ONLY_THERE = {
    "cryptography": "ai_broker",
    "fastapi": "gateway",
    "jsonschema": "agent_runtime",
}
STARTED = (
    "agent_runtime",
    "ai_broker",
    "billing_meter",
    "gateway",
    "nats_bootstrap",
    "orchestrator",
)
NAME_IMPORTED = """\
import sys
import {package}.app
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


@pytest.mark.parametrize("package", STARTED)
def test_a_service_starts_without_what_it_may_never_use(package: str) -> None:
    """Eight processes start together: what one imports in vain, all wait for."""
    others = [name for name, owner in ONLY_THERE.items() if owner != package]
    command = [sys.executable, "-c", NAME_IMPORTED.format(package=package)]
    found = subprocess.run(
        [*command, *SHARED.split(), *others], check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == []


def test_a_recipe_keeps_bytecode_where_the_environment_forbids_it(
    tmp_path: Path,
) -> None:
    """In a container that says not to, a second start is still a warm one."""
    made_from = tmp_path / ".venv" / "made-from"
    for path in ("just", "requirements.lock", "tools/install.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    made_from.mkdir(parents=True)
    (made_from / "place").write_text(f"{tmp_path.resolve()}\n{sys.executable}\n")
    shutil.copy(ROOT / "requirements.lock", made_from)
    shutil.copy(ROOT / "tools/install.py", made_from)
    for name in ("python", "just"):
        tool = tmp_path / ".venv" / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text('#!/bin/sh\necho "${PYTHONDONTWRITEBYTECODE-kept}"\n')
        tool.chmod(0o755)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHON", None)
    said = subprocess.run(
        [tmp_path / "just", "up"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout == "kept\n"
