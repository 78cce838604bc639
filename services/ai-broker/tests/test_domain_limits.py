"""What cannot be asked is refused with the field, the limit and what to do."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain import limits
from contracts.completions import CompletionRequest
from contracts.problems import Code

TEXT = {"kind": "text", "text": "Hello"}
CALL = {"kind": "tool-call", "call_id": "c1", "name": "t", "arguments": "{}"}
RESULT = {"kind": "tool-result", "call_id": "c1", "content": [TEXT]}
TOOL: dict[str, Any] = {"name": "t", "parameters": {"type": "object"}}
USER: dict[str, Any] = {"role": "user", "parts": [TEXT]}


def said(role: str, *parts: object) -> dict[str, Any]:
    """Make one turn."""
    return {"role": role, "parts": list(parts)}


def asked(*turns: object, **changes: object) -> CompletionRequest:
    """Ask with these turns."""
    fields: dict[str, Any] = {
        "completion_id": "c",
        "tenant": "acme",
        "model": "m",
        "turns": list(turns) or [USER],
        "deadline": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return CompletionRequest.model_validate(fields | changes)


def nested(levels: int) -> dict[str, Any]:
    """Make a schema this deep."""
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "request_",
    [
        asked(),
        asked(said("system", TEXT), USER),
        asked(USER, said("assistant", CALL), said("tool", RESULT), tools=[TOOL]),
        asked(USER, said("assistant", TEXT, CALL), said("user", RESULT, TEXT)),
        asked(USER, said("assistant", CALL), said("tool", RESULT),
              said("assistant", CALL), said("tool", RESULT)),
        asked(USER, said("assistant", TEXT)),
        asked(tools=[TOOL], tool_choice={"mode": "named", "name": "t"}),
        asked(output_schema={"json_schema": nested(limits.SCHEMA_DEPTH_MAX - 1)}),
    ],
)  # fmt: skip
def test_what_vendors_answer_is_let_through(request_: CompletionRequest) -> None:
    """Tools, prefills and ids that a vendor uses again are no mistakes."""
    assert limits.refusal(request_) is None


IMAGE = {"kind": "image", "media_type": "image/png", "url": "https://x.example/i"}
TOO_MUCH: list[tuple[Callable[[], CompletionRequest], str, str]] = [
    (
        lambda: asked(tools=[TOOL | {"name": f"t{n}"} for n in range(100_000)]),
        "tools", "1,024",
    ),
    (lambda: asked(*[USER] * 10_001), "turns", "10,000"),
    (lambda: asked(said("user", *[TEXT] * 20_001)), "parts", "20,000"),
    (
        lambda: asked(said("user", TEXT | {"text": "x" * 8_000_001})),
        "characters", "8,000,000",
    ),
    (lambda: asked(said("user", *[IMAGE] * 501)), "images", "500"),
    (
        lambda: asked(said("user", {"kind": "image", "media_type": "image/png",
                                    "data": b"x" * 33_554_433})),
        "bytes", "33,554,432",
    ),
    (
        lambda: asked(USER, said("assistant", CALL),
                      said("tool", RESULT | {"content": [IMAGE] * 501})),
        "images", "500",
    ),
    (lambda: asked(output_schema={"json_schema": nested(66)}), "output_schema", "64"),
    (
        lambda: asked(tools=[TOOL | {"parameters": {"enum": [0] * 50_001}}]),
        "tools[0].parameters", "50,000",
    ),
    (lambda: asked(extra={"a": nested(66)}), "extra", "64"),
    (lambda: asked(stop=["x" * 1_025]), "stop[0]", "1,024"),
    (lambda: asked(metadata={str(n): "" for n in range(65)}), "metadata", "64"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "field", "limit"), TOO_MUCH)
def test_too_much_names_the_field_and_the_limit(
    make: Callable[[], CompletionRequest], field: str, limit: str
) -> None:
    """Each count and size has its own error."""
    refused = limits.refusal(make())
    assert refused is not None
    assert refused.code is Code.TOO_LARGE
    assert field in refused.detail
    assert limit in refused.detail


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        (asked(said("system", TEXT)), "turns: only system turns"),
        (asked(USER, said("assistant")), "turns[1].parts: empty"),
        (asked(USER, said("tool", RESULT)), "turns[1].parts[0].call_id"),
        (asked(USER, said("assistant", CALL)), "turns[1].parts[0]: the call 'c1'"),
        (
            asked(USER, said("assistant", CALL), USER, said("assistant", TEXT)),
            "turns[1].parts[0]: the call 'c1' has no result",
        ),
        (
            asked(USER, said("assistant", CALL, CALL), said("tool", RESULT)),
            "turns[1].parts[1].call_id",
        ),
        (
            asked(USER, said("assistant", CALL), said("tool", RESULT, RESULT)),
            "turns[2].parts[1].call_id",
        ),
        (asked(said("user", TEXT, CALL)), "turns[0].parts[1]: tool-call in a user"),
        (
            asked(USER, said("assistant", CALL), said("system", RESULT)),
            "turns[2].parts[0]: tool-result in a system",
        ),
        (asked(said("user", {"kind": "image"})), "turns[0].parts[0]: give either"),
        (asked(tools=[TOOL, TOOL]), "tools[1].name"),
        (asked(tool_choice={"mode": "named", "name": "x"}), "tool_choice.name"),
        (asked(tool_choice={"mode": "required"}), "tool_choice.mode"),
        (asked(stop=[""]), "stop[0]: empty"),
    ],
)
def test_a_malformed_conversation_names_the_place(
    request_: CompletionRequest, where: str
) -> None:
    """What no vendor could make sense of is refused before anything is booked."""
    refused = limits.refusal(request_)
    assert refused is not None
    assert refused.code is Code.INVALID
    assert where in refused.detail


@given(st.none() | st.integers(1, 10**9))
def test_an_answer_has_room_and_an_end(tokens: int | None) -> None:
    """Never fewer characters than tokens allow, never more than the absolute limit."""
    weight = limits.answer_weight_max(asked(output_tokens_max=tokens))
    assert weight <= limits.ANSWER_WEIGHT_MAX
    assert weight >= min(16 * (tokens or 10**9), limits.ANSWER_WEIGHT_MAX)
