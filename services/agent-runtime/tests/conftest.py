"""What the tests of agent-runtime share."""

import sys
from pathlib import Path

import pytest

from telemetry.logs import silence

# Test folders are no packages: this makes ``agent_world`` importable beside them.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def quiet() -> None:
    """Write no logs: drawing the tracebacks of planted bugs takes seconds."""
    silence()
