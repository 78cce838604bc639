"""Usage told wrongly: the client hears the lie, the ledger keeps both."""

from typing import Any, Final

import pytest
from anthropic import AsyncAnthropic
from sandbox_line import Heard, Line

PROTOCOLS: Final = pytest.mark.parametrize("protocol", ["openai", "anthropic"])
STREAMS: Final = pytest.mark.parametrize("stream", [False, True])


def told(heard: Heard, *, stream: bool) -> list[dict[str, Any]]:
    """Return each final usage that was told, in order."""
    if not stream:
        return [heard.json["usage"]] if "usage" in heard.json else []
    found: list[dict[str, Any]] = []
    for event in heard.events:
        if event.get("type") in (None, "message_delta") and event.get("usage"):
            found.append(event["usage"])
        choices: list[dict[str, Any]] = event.get("choices") or []
        found.extend(choice["usage"] for choice in choices if "usage" in choice)
    return found


def counts(usage: dict[str, Any]) -> tuple[int, int]:
    """Return prompt and output tokens in either protocol's words."""
    if "prompt_tokens" in usage:
        return usage["prompt_tokens"], usage["completion_tokens"]
    return usage["input_tokens"], usage["output_tokens"]


@STREAMS
@PROTOCOLS
async def test_missing_usage_is_nowhere(
    line: Line, protocol: str, *, stream: bool
) -> None:
    """No event and no body carries any; the ledger knows the truth all the same."""
    heard = await line.call(protocol, "usage_missing", stream=stream)
    assert b'"usage"' not in heard.body
    (row,) = await line.rows()
    assert (row["end_state"], row["usage_reported"]) == ("completed", False)
    assert row["reported"] is None
    assert row["output_tokens"] > 0


@STREAMS
@PROTOCOLS
async def test_zero_is_told_as_zero(line: Line, protocol: str, *, stream: bool) -> None:
    """An explicit zero is a report, not an absence."""
    heard = await line.call(protocol, "usage_zero", stream=stream)
    assert counts(told(heard, stream=stream)[-1]) == (0, 0)
    (row,) = await line.rows()
    assert row["usage_reported"] is True
    assert row["reported"]["input_tokens"] == row["reported"]["output_tokens"] == 0
    assert row["input_tokens"] > 0


@STREAMS
@PROTOCOLS
@pytest.mark.parametrize("percent", [50, 300])
async def test_a_lie_is_kept_beside_the_truth(
    line: Line, protocol: str, percent: int, *, stream: bool
) -> None:
    """What the client was told and what was spent differ by what the rule says."""
    heard = await line.call(protocol, f"usage_wrong;percent={percent}", stream=stream)
    (row,) = await line.rows()
    said = row["reported"]
    assert counts(told(heard, stream=stream)[-1]) == (
        said["input_tokens"],
        said["output_tokens"],
    )
    for name in ("input_tokens", "output_tokens"):
        assert said[name] == row[name] * percent // 100 != row[name]


@STREAMS
@PROTOCOLS
async def test_without_a_fault_the_report_is_the_truth(
    line: Line, protocol: str, *, stream: bool
) -> None:
    """Both columns of the ledger are what the client heard."""
    heard = await line.call(protocol, stream=stream)
    (row,) = await line.rows()
    for name, value in row["reported"].items():
        assert row[name] == value
    truth = (row["input_tokens"], row["output_tokens"])
    assert counts(told(heard, stream=stream)[-1]) == truth


async def test_cumulative_usage_comes_twice(
    anthropic_client: AsyncAnthropic, line: Line
) -> None:
    """Who adds message_deltas up counts double; who replaces is right."""
    heard = await line.call("anthropic", "usage_twice")
    first, second = told(heard, stream=True)
    assert first == second
    async with anthropic_client.messages.stream(
        model="sandbox-claude",
        max_tokens=4000,
        messages=[{"role": "user", "content": "count to 40"}],
        extra_headers={"x-sandbox-fault": "usage_twice"},
    ) as stream:
        message = await stream.get_final_message()
    row = (await line.rows(2))[-1]
    assert message.usage.output_tokens == row["output_tokens"]
    assert message.stop_reason == "end_turn"


async def test_running_usage_comes_with_every_chunk(line: Line) -> None:
    """As vLLM does: each chunk counts up to itself, the last one is the bill."""
    heard = await line.call("openai", "usage_twice")
    outputs = [usage["completion_tokens"] for usage in told(heard, stream=True)]
    assert len(outputs) == len(heard.events)
    assert outputs == sorted(outputs)
    (row,) = await line.rows()
    assert outputs[-1] == row["output_tokens"]


async def test_choices_may_be_null_in_the_usage_chunk(line: Line) -> None:
    """Some servers write null where OpenAI writes an empty list."""
    heard = await line.call("openai", "usage_null_choices")
    last = heard.events[-1]
    assert last["choices"] is None
    assert last["usage"]["completion_tokens"] > 0


async def test_usage_stands_in_the_choice_of_a_lookalike(line: Line) -> None:
    """As Kimi does it: in the last choice, cached tokens beside the counts."""
    heard = await line.call("openai", "usage_lookalike")
    last = heard.events[-1]["choices"][0]
    assert last["finish_reason"] == "stop"
    (row,) = await line.rows()
    assert counts(last["usage"]) == (row["input_tokens"], row["output_tokens"])
    assert last["usage"]["cached_tokens"] == 0
    assert row["usage_reported"] is True
