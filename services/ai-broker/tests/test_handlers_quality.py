"""Every completed attempt's record says what can be said of its answer."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from broker_world import DONE, GOOD, LIMITED, SEEN, World, play
from prometheus_client import generate_latest

from ai_broker.domain.vendor import Started, ToolCallPiece, Vectors
from contracts.completions import FinishReason, ToolSpec
from contracts.quality import QualitySignals
from contracts.usage import EndState
from telemetry import Telemetry, configure
from telemetry.logs import silence


@pytest.fixture
def running() -> Iterator[Telemetry]:
    """Count what happens."""
    telemetry = configure("ai-broker", "broker-1", log_level="ERROR")
    yield telemetry
    telemetry.shutdown()
    silence()


def test_completed_attempts_alone_have_signals() -> None:
    """A refused attempt has none, a good answer has nothing wrong."""

    async def scene(world: World) -> None:
        world.first.scripts = [[LIMITED], [*GOOD, DONE]]
        await world.ask(world.replica("a"))
        refused, good = await world.ledger()
        assert refused.quality is None
        assert good.quality == QualitySignals()

    play(scene)


def test_vectors_have_no_form_to_judge() -> None:
    """An embedding is not an empty answer."""

    async def scene(world: World) -> None:
        vector = Vectors(0, (bytes(16),))
        world.first.scripts = [[Started(200, None), SEEN, vector, DONE]]
        await world.embed(world.replica("a"), "red")
        (record,) = await world.ledger()
        assert record.end_state is EndState.COMPLETED
        assert record.quality is None

    play(scene)


def test_defects_are_recorded_and_counted(running: Telemetry) -> None:
    """A call that does not fit its tool, in an answer cut short: both are said."""

    async def scene(world: World) -> None:
        call = ToolCallPiece(0, "c", "add", '{"a": "one"}')
        cut_short = replace(DONE, finish_reason=FinishReason.LENGTH)
        world.first.scripts = [[Started(200, None), call, SEEN, cut_short]]
        schema = {"properties": {"a": {"type": "number"}}}
        tool = ToolSpec.model_validate({"name": "add", "parameters": schema})
        await world.ask(world.replica("a"), tools=(tool,))
        (record,) = await world.ledger()
        assert record.quality == QualitySignals(truncated=True, arguments_valid=False)

    play(scene)
    counted = generate_latest(running.registry).decode()
    for signal in ("truncated", "arguments-invalid"):
        labels = f'model="model-1",signal="{signal}",vendor="first"'
        assert f"ai_answer_quality_total{{{labels}}} 1.0" in counted
