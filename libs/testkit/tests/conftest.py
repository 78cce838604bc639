"""Tests of the simulation run in virtual time; others on a usual loop."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from testkit.clock import SimulationLoop

VIRTUAL = ("test_simulated_", "test_clock", "test_incarnation")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the loop by the test's module."""
    if item.path.name.startswith(VIRTUAL):
        return {"virtual": SimulationLoop}
    return {"system": asyncio.new_event_loop}
