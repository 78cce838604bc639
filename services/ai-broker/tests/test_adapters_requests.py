"""What is sent: every field reaches the wire, or is refused, or is told as dropped."""

import base64
from typing import Any

import pytest
from recorded import body, prepare

from ai_broker.domain.catalogue import Protocol
from faults import PermanentFault

PIXEL = base64.b64encode(b"png").decode()
PDF = base64.b64encode(b"%PDF").decode()
OPENAI, ANTHROPIC = Protocol.OPENAI, Protocol.ANTHROPIC
# Any: turns and bodies are JSON.
EVERYTHING: list[dict[str, Any]] = [
    {"role": "system", "parts": [{"kind": "text", "text": "Brief.", "cache": "1h"}]},
    {
        "role": "user",
        "parts": [
            {"kind": "text", "text": "Look"},
            {"kind": "image", "media_type": "image/png", "data": PIXEL},
            {
                "kind": "document",
                "media_type": "application/pdf",
                "data": PDF,
                "name": "a.pdf",
            },
        ],
    },
    {
        "role": "assistant",
        "parts": [
            {"kind": "tool-call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"kind": "tool-call", "call_id": "c2", "name": "f", "arguments": "oops"},
        ],
    },
    {
        "role": "tool",
        "parts": [
            {"kind": "tool-result", "call_id": "c1", "content": []},
            {
                "kind": "tool-result",
                "call_id": "c2",
                "content": [{"kind": "text", "text": "bad JSON"}],
                "is_error": True,
            },
        ],
    },
]
SCHEMA = {"json_schema": {"type": "object"}, "name": "n"}
TOOL = {"name": "f", "parameters": {"type": "object"}, "strict": True, "cache": "5m"}


def said(*parts: dict[str, Any], role: str = "user") -> dict[str, object]:
    """Give one turn of these parts."""
    return {"turns": [{"role": role, "parts": list(parts)}]}


def test_openai_is_sent_every_turn() -> None:
    """Tool results are messages of their own; images and files are data URLs."""
    system, user, assistant, one, two = body(OPENAI, turns=EVERYTHING)["messages"]
    assert system == {"role": "system", "content": "Brief."}
    assert user["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    file = user["content"][2]["file"]
    assert file["file_data"] == f"data:application/pdf;base64,{PDF}"
    assert file["filename"] == "a.pdf"
    assert [each["function"]["arguments"] for each in assistant["tool_calls"]] == [
        "{}",
        "oops",
    ]
    assert one == {"role": "tool", "tool_call_id": "c1", "content": ""}
    assert [each["text"] for each in two["content"]] == ["The tool failed:", "bad JSON"]


def test_openai_is_sent_every_parameter() -> None:
    """Each optional field has its place, and absent ones are not sent as null."""
    sent = body(
        OPENAI,
        tools=[TOOL],
        tool_choice={"mode": "named", "name": "f", "parallel": False},
        output_schema=SCHEMA,
        output_tokens_max=7,
        stop=["END"],
        sampling={
            "temperature": 1.5,
            "top_p": 0.5,
            "seed": 3,
            "frequency_penalty": 1,
            "presence_penalty": -1,
            "logprobs": True,
            "top_logprobs": 2,
        },
        reasoning={"effort": "low", "tokens_max": 2048},
        user="u-1",
        metadata={"k": "v"},
        service_tier="flex",
        extra={"verbosity": "low"},
    )
    assert sent.pop("messages")
    assert sent.pop("tools")[0]["function"]["strict"] is True
    assert sent.pop("response_format")["json_schema"]["strict"] is True
    assert sent == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "max_completion_tokens": 7,
        "stop": ["END"],
        "temperature": 1.5,
        "top_p": 0.5,
        "seed": 3,
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "user": "u-1",
        "metadata": {"k": "v"},
        "service_tier": "flex",
        "verbosity": "low",
    }
    assert set(body(OPENAI)) == {"model", "messages", "stream", "stream_options"}


def test_anthropic_is_sent_everything() -> None:
    """Cache marks, failures, sampling and the default limit reach the wire."""
    sent = body(
        ANTHROPIC,
        turns=EVERYTHING,
        tools=[TOOL],
        tool_choice={"mode": "required", "parallel": False},
        sampling={"temperature": 0.5, "top_k": 4, "top_p": 0.9},
        reasoning={"tokens_max": 2048, "effort": "low"},
        output_schema=SCHEMA,
        user="u-1",
        stop=["END"],
        service_tier="auto",
        extra={"inference_geo": "eu"},
    )
    marked = {"type": "ephemeral", "ttl": "1h"}
    assert sent["system"] == [
        {"type": "text", "text": "Brief.", "cache_control": marked}
    ]
    assert [each["role"] for each in sent["messages"]] == ["user", "assistant", "user"]
    _, image, document = sent["messages"][0]["content"]
    assert image["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": PIXEL,
    }
    assert document["title"] == "a.pdf"
    assert document["source"]["data"] == PDF
    inputs = [each["input"] for each in sent["messages"][1]["content"]]
    assert inputs == [{}, {"INVALID_JSON": "oops"}]
    assert sent["messages"][2]["content"][1]["is_error"] is True
    assert sent["tools"][0]["cache_control"] == {"type": "ephemeral"}
    assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert (sent["temperature"], sent["top_k"], sent["top_p"]) == (0.5, 4, 0.9)
    assert sent["max_tokens"] == 99 + 2048
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert sent["output_config"]["effort"] == "low"
    assert sent["output_config"]["format"]["type"] == "json_schema"
    assert sent["metadata"] == {"user_id": "u-1"}
    assert sent["stop_sequences"] == ["END"]
    assert sent["service_tier"] == "auto"
    assert sent["inference_geo"] == "eu"
    assert sent["stream"] is True


def test_signed_and_sealed_reasoning_goes_back_to_anthropic() -> None:
    """Thinking blocks return as they came, before the call that they led to."""
    parts = [
        {"kind": "reasoning", "text": "hm", "signature": "sig"},
        {"kind": "reasoning", "redacted": "xx"},
        {"kind": "text", "text": ""},
        {"kind": "tool-call", "call_id": "c", "name": "f", "arguments": '{"a":1}'},
    ]
    turns = [
        {"role": "user", "parts": [{"kind": "text", "text": "Hi"}]},
        {"role": "assistant", "parts": parts},
    ]
    _, assistant = body(ANTHROPIC, turns=turns)["messages"]
    assert assistant["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
    ]


SIGNED = {"kind": "reasoning", "text": "hm", "signature": "sig"}
UNSIGNED = {"kind": "reasoning", "text": "hm"}
URL = {"kind": "document", "media_type": "application/pdf", "url": "https://x.example"}
SHOWN = {
    "kind": "tool-result",
    "call_id": "c",
    "content": [{"kind": "image", "url": "https://x.example/a.png"}],
}
DETAILED = {"kind": "image", "url": "https://x.example/a.png", "detail": "high"}
BEST: dict[str, object] = {
    "reasoning": {"tokens_max": 9_999},
    "output_tokens_max": 9_999,
}

# A protocol, a vendor's quirks, a request, and the field that is named.
REFUSED: list[tuple[Protocol, dict[str, object], dict[str, object], str]] = [
    (OPENAI, {}, {"sampling": {"top_k": 3}}, "sampling.top_k"),
    (OPENAI, {}, {"stop": ["a"] * 5}, "stop"),
    (OPENAI, {}, {"extra": {"magic": 1}}, "extra.magic"),
    (OPENAI, {}, {"reasoning": {"tokens_max": 9}}, "reasoning.tokens_max"),
    (OPENAI, {}, said(SIGNED, role="assistant"), "turns[0].parts[0]"),
    (OPENAI, {}, said(UNSIGNED, role="assistant"), "turns[0].parts[0]"),
    (
        OPENAI,
        {"reasoning_field": "reasoning"},
        said(SIGNED, role="assistant"),
        "turns[0].parts[0]",
    ),
    (
        OPENAI,
        {"refuses": ["sampling.seed"]},
        {"sampling": {"seed": 1}},
        "sampling.seed",
    ),
    (OPENAI, {"refuses": ["user"]}, {"user": "u"}, "user"),
    (OPENAI, {"refuses": ["metadata"]}, {"metadata": {"a": "b"}}, "metadata"),
    (OPENAI, {"refuses": ["service_tier"]}, {"service_tier": "x"}, "service_tier"),
    (
        OPENAI,
        {"refuses": ["tool_choice.parallel"]},
        {"tools": [TOOL], "tool_choice": {"parallel": True}},
        "tool_choice.parallel",
    ),
    (OPENAI, {"refuses": ["tools.strict"]}, {"tools": [TOOL]}, "tools.strict"),
    (
        OPENAI,
        {"tool_modes": ["auto"]},
        {"tools": [TOOL], "tool_choice": {"mode": "required"}},
        "tool_choice.mode",
    ),
    (OPENAI, {"schema_mode": "none"}, {"output_schema": SCHEMA}, "output_schema"),
    (
        OPENAI,
        {"schema_mode": "json_object"},
        {"output_schema": SCHEMA},
        "output_schema.strict",
    ),
    (
        OPENAI,
        {"schema_mode": "none"},
        {"extra": {"response_format": {"type": "json_object"}}},
        "extra.response_format",
    ),
    (OPENAI, {"thinking": "none"}, {"reasoning": {"effort": "low"}}, "reasoning"),
    (ANTHROPIC, {}, {"sampling": {"seed": 3}}, "sampling.seed"),
    (ANTHROPIC, {}, {"sampling": {"logprobs": True}}, "sampling.logprobs"),
    (ANTHROPIC, {}, {"sampling": {"temperature": 2}}, "sampling.temperature"),
    (
        ANTHROPIC,
        {"refuses": ["sampling.temperature"]},
        {"sampling": {"temperature": 1}},
        "sampling.temperature",
    ),
    (ANTHROPIC, {}, {"service_tier": "flex"}, "service_tier"),
    (ANTHROPIC, {}, {"metadata": {"a": "b"}}, "metadata"),
    (ANTHROPIC, {}, said(UNSIGNED), "turns[0].parts[0]"),
    (ANTHROPIC, {}, said(DETAILED), "turns[0].parts[0].detail"),
    (ANTHROPIC, {}, BEST, "reasoning.tokens_max"),
    (ANTHROPIC, {}, {"reasoning": {"tokens_max": 9}}, "reasoning.tokens_max"),
    (
        ANTHROPIC,
        {"thinking": "adaptive"},
        {"reasoning": {"tokens_max": 2048}},
        "reasoning.tokens_max",
    ),
    (
        ANTHROPIC,
        {},
        {"extra": {"response_format": {"type": "json_object"}}},
        "extra.response_format",
    ),
]


@pytest.mark.parametrize(("protocol", "quirks", "changes", "named"), REFUSED)
def test_what_a_vendor_cannot_do_is_named(
    protocol: Protocol,
    quirks: dict[str, object],
    changes: dict[str, object],
    named: str,
) -> None:
    """No field is dropped in silence; one that may be dropped is told instead."""
    with pytest.raises(PermanentFault) as refused:
        prepare(protocol, changes, quirks)
    assert refused.value.detail.startswith(f"{named}: ")
    prepared = prepare(protocol, {**changes, "drop_unsupported": True}, quirks)
    assert prepared.dropped == (named,)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (said(URL), "turns[0].parts[0].url"),
        (said(SHOWN, role="tool"), "turns[0].parts[0].content[0]"),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_what_was_said_is_never_left_out(
    changes: dict[str, object], named: str, *, lenient: bool
) -> None:
    """An answer to half a question is a wrong answer, whatever may be dropped."""
    with pytest.raises(PermanentFault) as refused:
        prepare(OPENAI, {**changes, "drop_unsupported": lenient})
    assert named in refused.value.detail
