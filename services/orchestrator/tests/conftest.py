"""What the tests of the orchestrator share."""

import sys
from pathlib import Path

import pytest

# Test folders are no packages: this makes ``orchestrator_world`` importable.
sys.path.insert(0, str(Path(__file__).parent))

from orchestrator_world import World


@pytest.fixture
def world() -> World:
    """Return an empty orchestrator."""
    return World()
