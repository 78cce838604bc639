"""Recorded chat completions through every transport."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import Recorder, chunks, entry, hear

from ai_broker.adapters.vendors.openai_usage import usage_of
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
from contracts.message import JsonObject
from contracts.usage import TokenUsage

OPENAI = entry(Protocol.OPENAI)
STOP: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def says(**delta: object) -> dict[str, Any]:
    """Give a chunk that says this."""
    return {"choices": [{"index": 0, "delta": delta}]}


async def test_parallel_calls_reasoning_and_odd_chunks_are_read(
    recorder: Recorder, transport: str
) -> None:
    """Pieces of parallel calls are told apart; null choices and U+2028 are read."""
    call: dict[str, Any] = {"index": 0, "id": "a", "function": {"name": "f"}}
    other: dict[str, Any] = {"index": 1, "id": "b", "function": {"name": "g"}}
    more: dict[str, Any] = {"index": 0, "function": {"arguments": "{}"}}
    usage: JsonObject = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    recorder.pieces = chunks(
        {"model": "m-1", **says(reasoning_content="hm")},
        {**says(content="a\u2028b"), "usage": None, "obfuscation": "xx"},
        says(tool_calls=[call, other]),
        {"choices": [{"delta": {"tool_calls": [more]}, "finish_reason": "tool_calls"}]},
        {"choices": None, "usage": usage, "service_tier": "flex"},
    )
    said = await hear(recorder, OPENAI, transport)
    counted = TokenUsage(
        input_tokens=70, cache_read_tokens=30, output_tokens=30, reasoning_tokens=20
    )
    assert said == [
        Reasoning(0, "hm"),
        Text(1, "a\u2028b"),
        ToolCallPiece(2, "a", "f"),
        ToolCallPiece(3, "b", "g"),
        ToolCallPiece(2, arguments="{}"),
        UsageSeen(counted, usage, final=True),
        Done(FinishReason.TOOL_CALLS, "m-1", "flex"),
    ]
    assert recorder.path == "/chat/completions"
    assert recorder.headers["x-client-request-id"] == "attempt_7"
    assert recorder.headers["authorization"] == "Bearer secret-key"
    assert recorder.body["stream"] is True
    assert recorder.body["stream_options"] == {"include_usage": True}


async def test_bytes_may_be_cut_anywhere(recorder: Recorder, transport: str) -> None:
    """A character or a line end that comes in two pieces is one all the same."""
    whole = b"".join(chunks(says(content="日本語 🙂"), STOP)).replace(b"\n", b"\r\n")
    recorder.pieces = [whole[at : at + 1] for at in range(len(whole))]
    said = await hear(recorder, OPENAI, transport)
    assert said == [Text(0, "日本語 🙂"), Done(FinishReason.STOP, "")]


async def test_without_an_end_marker_there_is_no_end(
    recorder: Recorder, transport: str
) -> None:
    """Neither a missing [DONE] nor a missing reason to stop ends an answer."""
    recorder.pieces = chunks(says(content="x"), STOP, done=False)
    assert await hear(recorder, OPENAI, transport) == [Text(0, "x")]
    recorder.pieces = chunks(says(content="x"))
    assert await hear(recorder, OPENAI, transport) == [Text(0, "x")]


@pytest.mark.parametrize(
    ("chunk", "status", "code"),
    [
        ({"error": {"message": "boom", "type": "server_error"}}, None, "server_error"),
        ({"error": {"message": "boom", "code": 429}}, 429, "429"),
        ({"error": {"message": "boom", "type": "rate_limit_error"}}, 429, None),
        ({"object": "error", "message": "boom", "code": 400}, 400, "400"),
        ({"error": "boom"}, None, "error"),
        (
            {
                "choices": [
                    {
                        "finish_reason": "error",
                        "error": {"code": 502, "message": "boom"},
                    }
                ]
            },
            502,
            "502",
        ),
    ],
)
async def test_errors_inside_a_stream_are_the_vendors_report(
    recorder: Recorder,
    transport: str,
    chunk: dict[str, Any],
    status: int | None,
    code: str | None,
) -> None:
    """However a vendor words an error after 200, it fails the call as its report."""
    recorder.pieces = chunks(says(content="x"), chunk)
    with pytest.raises(VendorError, match="boom") as raised:
        await hear(recorder, OPENAI, transport)
    failure = raised.value.failure
    assert failure.kind is FailureKind.REPORTED
    assert failure.status == status
    assert code is None or failure.code == code


@pytest.mark.parametrize(
    "piece",
    [
        b"data: {broken\n\n",
        b"data: [1]\n\n",
        b'data: {"choices": {}}\n\n',
        b'data: {"choices": [1]}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": [{"type": "smell"}]}}]}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": "0"}]}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
    ],
)
async def test_what_is_not_the_protocol_fails_the_call(
    recorder: Recorder, transport: str, piece: bytes
) -> None:
    """Content of another shape is never skipped: that would leave a hole."""
    recorder.pieces = [*chunks(says(content="x"), done=False), piece]
    with pytest.raises(VendorError) as raised:
        await hear(recorder, OPENAI, transport)
    assert raised.value.failure.kind is FailureKind.MALFORMED


async def test_refusals_log_probabilities_and_stop_texts_are_told(
    recorder: Recorder, transport: str
) -> None:
    """What ended the answer and how sure it was come through untouched."""
    token: JsonObject = {"token": "No", "logprob": -0.5, "top_logprobs": []}
    recorder.pieces = chunks(
        {"choices": [{"delta": {"refusal": "No"}, "logprobs": {"refusal": [token]}}]},
        {"choices": [{"delta": {"refusal": "."}, "finish_reason": "stop"}]},
    )
    said = await hear(recorder, OPENAI, transport)
    assert said[:2] == [Declined(0, "No"), Declined(0, ".")]
    assert said[2] == Done(FinishReason.REFUSAL, "", logprobs={"refusal": [token]})
    ends: JsonObject = {"delta": {}, "finish_reason": "stop", "stop_reason": "END"}
    recorder.pieces = chunks(says(content="x"), {"choices": [ends]})
    last = (await hear(recorder, OPENAI, transport))[-1]
    assert last == Done(FinishReason.STOP, "", stop_sequence="END")


async def test_mistrals_blocks_and_calls_of_one_number_are_read(
    recorder: Recorder, transport: str
) -> None:
    """Thinking blocks are reasoning; a second id under one number is a second call."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    calls = [
        {"index": 0, "id": name, "function": {"name": "f", "arguments": "{}"}}
        for name in ("a", "b")
    ]
    recorder.pieces = chunks(
        says(content=[thinking, {"type": "text", "text": "so"}]),
        says(tool_calls=calls[:1]),
        says(tool_calls=calls[1:]),
        {**STOP, "unheard_of": {"deep": [1]}},
    )
    assert (await hear(recorder, OPENAI, transport))[:-1] == [
        Reasoning(0, "hm"),
        Text(1, "so"),
        ToolCallPiece(2, "a", "f", "{}"),
        ToolCallPiece(3, "b", "f", "{}"),
    ]


TEN: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 4}
# Any: bodies are JSON.
USAGES: list[tuple[list[Any], TokenUsage, bool]] = [
    # The last snapshot, never the sum.
    (
        [
            {**says(content="x"), "usage": TEN | {"completion_tokens": 1}},
            STOP | {"usage": TEN},
        ],
        TokenUsage(input_tokens=10, output_tokens=4),
        True,
    ),
    # Counted along the way only: it does not cover the call.
    (
        [{**says(content="x"), "usage": TEN}, STOP],
        TokenUsage(input_tokens=10, output_tokens=4),
        False,
    ),
    # A count that is not there is not zero, and a zero is not absent.
    (
        [STOP, {"choices": [], "usage": {"prompt_tokens": 10}}],
        TokenUsage(input_tokens=10),
        False,
    ),
    (
        [
            STOP,
            {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
        ],
        TokenUsage(),
        True,
    ),
    # Moonshot's and Groq's places; Moonshot's and DeepSeek's names.
    (
        [
            {
                "choices": [
                    {
                        "delta": {},
                        "finish_reason": "stop",
                        "usage": TEN | {"cached_tokens": 3},
                    }
                ]
            }
        ],
        TokenUsage(input_tokens=7, cache_read_tokens=3, output_tokens=4),
        True,
    ),
    (
        [STOP | {"x_groq": {"usage": TEN}}],
        TokenUsage(input_tokens=10, output_tokens=4),
        True,
    ),
    (
        [STOP | {"usage": TEN | {"prompt_cache_hit_tokens": 6}}],
        TokenUsage(input_tokens=4, cache_read_tokens=6, output_tokens=4),
        True,
    ),
    # Lies: negative, fractions, texts, more than there is.
    (
        [STOP | {"usage": {"prompt_tokens": -5, "completion_tokens": "9"}}],
        TokenUsage(),
        False,
    ),
]


@pytest.mark.parametrize(("bodies", "usage", "final"), USAGES)
async def test_usage_is_the_last_whole_snapshot(
    recorder: Recorder,
    transport: str,
    bodies: list[dict[str, Any]],
    usage: TokenUsage,
    *,
    final: bool,
) -> None:
    """Whatever a compatible vendor calls its counts and wherever it puts them."""
    recorder.pieces = chunks(*bodies)
    said = await hear(recorder, OPENAI, transport)
    seen = [each for each in said if isinstance(each, UsageSeen)]
    assert seen[-1].usage == usage
    assert seen[-1].final is final


async def test_no_usage_is_no_snapshot(recorder: Recorder, transport: str) -> None:
    """An empty usage says nothing, so the call is estimated."""
    recorder.pieces = chunks(says(content="x"), {**STOP, "usage": {}})
    said = await hear(recorder, OPENAI, transport)
    assert not any(isinstance(each, UsageSeen) for each in said)


async def test_reasoning_that_is_counted_apart_is_counted(
    recorder: Recorder, transport: str
) -> None:
    """Google's output leaves the thinking out; its total has it, and bills it."""
    quirks = {"counts_reasoning_apart": True}
    google = entry(Protocol.OPENAI, quirks=quirks)
    recorder.pieces = chunks(STOP | {"usage": TEN | {"total_tokens": 74}})
    said = await hear(recorder, google, transport)
    seen = [each for each in said if isinstance(each, UsageSeen)]
    assert seen[-1].usage == TokenUsage(
        input_tokens=10, output_tokens=4, reasoning_tokens=60
    )


counts = st.integers(0, 2000)


@given(
    st.fixed_dictionaries(
        {
            "prompt_tokens": st.integers(0, 1000),
            "completion_tokens": st.integers(0, 1000),
            "prompt_tokens_details": st.none()
            | st.fixed_dictionaries(
                {
                    "cached_tokens": st.none() | counts,
                    "cache_write_tokens": st.none() | counts,
                    "audio_tokens": st.none() | counts,
                }
            ),
            "completion_tokens_details": st.none()
            | st.fixed_dictionaries(
                {"reasoning_tokens": counts, "audio_tokens": st.none() | counts}
            ),
        },
        optional={"cached_tokens": counts, "prompt_cache_hit_tokens": counts},
    )
)
def test_counts_are_a_partition(raw: dict[str, Any]) -> None:
    """However the details lie, the parts add up to what is billed."""
    assert usage_of(raw).total == raw["prompt_tokens"] + raw["completion_tokens"]
