"""Fixtures of the tests on a real server; testkit says what each lends."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.nats_server import nats_server, nats_url
from testkit.nats_world import nats_world

__all__ = ["nats_server", "nats_url", "nats_world"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let nats-py abandon the sockets of failed attempts to connect."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))


@pytest.fixture(autouse=True)
def collect_abandoned_sockets() -> Iterator[None]:
    """Collect them in the test that made them, where they are allowed."""
    yield
    gc.collect()
