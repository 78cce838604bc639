"""Telemetry for a test, taken down after it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry import Telemetry, configure


@pytest.fixture
def trace_file(tmp_path: Path) -> Path:
    """Where the spans of the test go."""
    return tmp_path / "traces" / "spans.jsonl"


@pytest.fixture
def running(trace_file: Path) -> Iterator[Telemetry]:
    """Telemetry that writes its spans to ``trace_file``."""
    telemetry = configure("ai-broker", "broker_1", trace_file=trace_file)
    yield telemetry
    telemetry.shutdown()
