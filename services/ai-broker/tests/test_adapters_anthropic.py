"""Recorded answers of the messages API through every transport."""

from typing import Any

import pytest
from recorded import Recorder, entry, events, hear

from ai_broker.domain.catalogue import Protocol
from ai_broker.domain.vendor import (
    Declined,
    Done,
    FailureKind,
    Reasoning,
    Text,
    ToolCallPiece,
    UsageSeen,
    VendorError,
)
from contracts.completions import FinishReason
from contracts.usage import TokenUsage

ANTHROPIC = entry(Protocol.ANTHROPIC)


def starts(**usage: object) -> dict[str, Any]:
    """Give the first event, with these counts."""
    return {"type": "message_start", "message": {"model": "m-1", "usage": usage}}


def block(index: int, **content: object) -> dict[str, Any]:
    """Give the start of a block."""
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, **content: object) -> dict[str, Any]:
    """Give more of a block."""
    return {"type": "content_block_delta", "index": index, "delta": content}


def stops(reason: str = "end_turn", **more: object) -> list[dict[str, Any]]:
    """Give the last two events, the first with these counts."""
    change = {"stop_reason": reason, "stop_sequence": more.pop("stop_sequence", None)}
    change |= {"stop_details": more.pop("stop_details", None)}
    return [
        {"type": "message_delta", "delta": change, "usage": more},
        {"type": "message_stop"},
    ]


async def test_thinking_and_cumulative_usage_are_read(
    recorder: Recorder, transport: str
) -> None:
    """Signatures and sealed thinking survive; the last count of each kind holds."""
    recorder.pieces = events(
        starts(
            input_tokens=10,
            cache_read_input_tokens=5,
            cache_creation_input_tokens=8,
            cache_creation={"ephemeral_1h_input_tokens": 3},
            output_tokens=1,
            service_tier="priority",
        ),
        block(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="hm"),
        delta(0, type="signature_delta", signature="sig"),
        {"type": "content_block_stop", "index": 0},
        block(1, type="redacted_thinking", data="xx"),
        {"type": "ping"},
        {"type": "from_the_future", "delta": {"text": "?"}},
        block(2, type="text", text=""),
        block(3, type="tool_use", id="t", name="f", input={}),
        {"type": "content_block_stop", "index": 3},
        *stops(
            "tool_use", output_tokens=40, output_tokens_details={"thinking_tokens": 25}
        ),
    )
    said = await hear(recorder, ANTHROPIC, transport)
    pieces = [each for each in said if not isinstance(each, UsageSeen)]
    assert pieces == [
        Reasoning(0, "hm"),
        Reasoning(0, signature="sig"),
        Reasoning(1, redacted="xx"),
        ToolCallPiece(2, "t", "f"),
        ToolCallPiece(2, arguments="{}"),
        Done(FinishReason.TOOL_CALLS, "m-1", "priority"),
    ]
    first, last = (each for each in said if isinstance(each, UsageSeen))
    assert not first.final
    assert last.final
    assert last.usage == TokenUsage(
        input_tokens=10,
        cache_read_tokens=5,
        cache_write_5m_tokens=5,
        cache_write_1h_tokens=3,
        output_tokens=15,
        reasoning_tokens=25,
    )


async def test_the_call_carries_key_version_and_attempt(
    recorder: Recorder, transport: str
) -> None:
    """The version is ours, not the SDK's: its newest refuses every temperature."""
    recorder.pieces = events(*stops(output_tokens=1))
    await hear(recorder, ANTHROPIC, transport)
    assert recorder.path == "/v1/messages"
    assert recorder.headers["x-client-request-id"] == "attempt_7"
    assert recorder.headers["authorization"] == "Bearer secret-key"
    assert recorder.headers["anthropic-version"] == "2023-06-01"
    assert recorder.body["stream"] is True


async def test_stop_sequences_and_refusals_are_told(
    recorder: Recorder, transport: str
) -> None:
    """Which text ended the answer, and in which words the vendor declined."""
    said_x = [block(0, type="text", text="x")]
    recorder.pieces = events(
        starts(input_tokens=1),
        *said_x,
        *stops("stop_sequence", stop_sequence="END", output_tokens=2),
    )
    said = await hear(recorder, ANTHROPIC, transport)
    assert said[-1] == Done(FinishReason.STOP, "m-1", stop_sequence="END")
    recorder.pieces = events(
        starts(input_tokens=1),
        *said_x,
        *stops("refusal", stop_details={"explanation": "No."}, output_tokens=2),
    )
    said = await hear(recorder, ANTHROPIC, transport)
    assert Declined(1, "No.") in said
    assert said[-1] == Done(FinishReason.REFUSAL, "m-1")


async def test_arguments_that_come_whole_are_not_lost(
    recorder: Recorder, transport: str
) -> None:
    """Lookalikes put a call's arguments into its first event; pieces replace it."""
    recorder.pieces = events(
        block(0, type="tool_use", id="a", name="f", input={"x": 1}),
        {"type": "content_block_stop", "index": 0},
        block(1, type="tool_use", id="b", name="g", input={}),
        delta(1, type="input_json_delta", partial_json='{"y":'),
        delta(1, type="input_json_delta", partial_json="2}"),
        {"type": "content_block_stop", "index": 1},
        *stops("tool_use"),
    )
    said = await hear(recorder, ANTHROPIC, transport)
    assert [each for each in said if isinstance(each, ToolCallPiece)] == [
        ToolCallPiece(0, "a", "f"),
        ToolCallPiece(0, arguments='{"x":1}'),
        ToolCallPiece(1, "b", "g"),
        ToolCallPiece(1, arguments='{"y":'),
        ToolCallPiece(1, arguments="2}"),
    ]


@pytest.mark.parametrize(
    ("first", "last", "usage"),
    [
        # Moonshot and Qwen: the whole prompt first, its split at the end.
        (
            {"input_tokens": 100, "output_tokens": 0},
            {"input_tokens": 20, "cache_read_input_tokens": 80, "output_tokens": 5},
            TokenUsage(input_tokens=20, cache_read_tokens=80, output_tokens=5),
        ),
        # The split first, and at the end the whole prompt without it.
        (
            {"input_tokens": 20, "cache_read_input_tokens": 80},
            {"input_tokens": 100, "output_tokens": 5},
            TokenUsage(input_tokens=20, cache_read_tokens=80, output_tokens=5),
        ),
        # Zeros that are said are zeros.
        (
            {"input_tokens": 100, "cache_read_input_tokens": 50},
            {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0},
            TokenUsage(),
        ),
        # Nulls say nothing.
        (
            {"input_tokens": 9, "cache_read_input_tokens": None, "output_tokens": 1},
            {"input_tokens": None, "output_tokens": 7},
            TokenUsage(input_tokens=9, output_tokens=7),
        ),
    ],
)
async def test_the_last_split_of_the_prompt_holds(
    recorder: Recorder,
    transport: str,
    first: dict[str, object],
    last: dict[str, object],
    usage: TokenUsage,
) -> None:
    """A prompt is never counted twice, whichever event splits it."""
    recorder.pieces = events(starts(**first), *stops("end_turn", **last))
    said = await hear(recorder, ANTHROPIC, transport)
    seen = [each for each in said if isinstance(each, UsageSeen)]
    assert seen[-1].usage == usage
    assert seen[-1].final


async def test_output_that_was_never_counted_is_not_final(
    recorder: Recorder, transport: str
) -> None:
    """The first event's output is a placeholder: alone it counts nothing."""
    recorder.pieces = events(
        starts(input_tokens=10, output_tokens=1), *stops(service_tier="standard")
    )
    said = await hear(recorder, ANTHROPIC, transport)
    assert not any(isinstance(each, UsageSeen) and each.final for each in said)


async def test_an_error_event_is_the_vendors_report(
    recorder: Recorder, transport: str
) -> None:
    """An error after 200 stands for the status that the API would have answered."""
    error = {"type": "overloaded_error", "message": "later"}
    recorder.pieces = events(
        starts(input_tokens=10),
        block(0, type="text", text="x"),
        {"type": "error", "error": error},
    )
    with pytest.raises(VendorError, match="later") as raised:
        await hear(recorder, ANTHROPIC, transport)
    failure = raised.value.failure
    assert failure.kind is FailureKind.REPORTED
    assert failure.status == 529
    assert failure.code == "overloaded_error"


async def test_without_an_end_there_is_none(recorder: Recorder, transport: str) -> None:
    """Neither a missing last event nor a missing reason to stop ends an answer."""
    said_x = [starts(), block(0, type="text", text="x")]
    recorder.pieces = events(*said_x, stops()[0])
    assert await hear(recorder, ANTHROPIC, transport) == [Text(0, "x")]
    recorder.pieces = events(*said_x, stops()[1])
    assert await hear(recorder, ANTHROPIC, transport) == [Text(0, "x")]
