"""How vendors depart from their protocol, as the catalogue says."""

import pytest
from recorded import body, prepare

from ai_broker.domain.catalogue import Candidate, Protocol
from faults import PermanentFault

OPENAI, ANTHROPIC = Protocol.OPENAI, Protocol.ANTHROPIC
SCHEMA = {"json_schema": {"type": "object"}, "name": "n"}

# A vendor's quirks, a request, and what of it is sent.
QUIRKS: list[tuple[dict[str, object], dict[str, object], dict[str, object]]] = [
    (
        {"output_limit_field": "max_tokens"},
        {"output_tokens_max": 5},
        {"max_tokens": 5},
    ),
    ({"stream_usage": False}, {}, {"stream_options": None}),
    ({"extras": ["top_k"]}, {"sampling": {"top_k": 5}}, {"top_k": 5}),
    ({"extras": ["magic"]}, {"extra": {"magic": 1}}, {"magic": 1}),
    ({"stops_max": 16}, {"stop": ["a"] * 9}, {"stop": ["a"] * 9}),
    (
        {"thinking": "enable_thinking"},
        {"reasoning": {"tokens_max": 9}},
        {"enable_thinking": True, "thinking_budget": 9},
    ),
    (
        {"thinking": "enable_thinking"},
        {"reasoning": {"effort": "none"}},
        {"enable_thinking": False},
    ),
    (
        {"thinking": "switch"},
        {"reasoning": {"effort": "low"}},
        {"thinking": {"type": "enabled"}},
    ),
    (
        {"thinking": "reasoning"},
        {"reasoning": {"tokens_max": 9}},
        {"reasoning": {"max_tokens": 9}},
    ),
    (
        {},
        {"extra": {"response_format": {"type": "json_object"}}},
        {"response_format": {"type": "json_object"}},
    ),
]


@pytest.mark.parametrize(("quirks", "changes", "sent"), QUIRKS)
def test_quirks_are_data(
    quirks: dict[str, object], changes: dict[str, object], sent: dict[str, object]
) -> None:
    """What a vendor calls a thing is written in the catalogue, not in code."""
    found = body(OPENAI, quirks, **changes)
    assert {name: found.get(name) for name in sent} == sent


def test_a_vendor_without_schemas_is_told_in_words() -> None:
    """JSON mode with the schema in the prompt, where the caller needs no proof."""
    schema = {**SCHEMA, "strict": False}
    sent = body(
        OPENAI,
        {"schema_mode": "json_object", "system_role": "developer"},
        output_schema=schema,
    )
    assert sent["response_format"] == {"type": "json_object"}
    last = sent["messages"][-1]
    assert last["role"] == "developer"
    assert '{"type":"object"}' in last["content"]


def test_reasoning_and_cache_marks_go_where_a_vendor_wants_them() -> None:
    """DeepSeek takes its reasoning back; Qwen takes Anthropic's cache marks."""
    quirks: dict[str, object] = {
        "reasoning_field": "reasoning_content",
        "cache_marks": True,
    }
    thought = {"kind": "reasoning", "text": "hm"}
    text = {"kind": "text", "text": "so", "cache": "5m"}
    sent = body(OPENAI, quirks, turns=[{"role": "assistant", "parts": [thought, text]}])
    mark = {"type": "ephemeral"}
    assert sent["messages"] == [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "so", "cache_control": mark}],
            "reasoning_content": "hm",
        }
    ]


@pytest.mark.parametrize(
    ("protocol", "field"),
    [(OPENAI, "max_completion_tokens"), (ANTHROPIC, "max_tokens")],
)
def test_a_longer_answer_than_the_model_writes_is_cut_and_told(
    protocol: Protocol, field: str
) -> None:
    """The limit is the model's own where the caller lets it be dropped."""
    short = Candidate("v", "m", 50, output_tokens_max=60)
    long: dict[str, object] = {"output_tokens_max": 61}
    with pytest.raises(PermanentFault, match="at most 60"):
        prepare(protocol, long, candidate=short)
    prepared = prepare(protocol, {**long, "drop_unsupported": True}, candidate=short)
    assert prepared.body[field] == 60
    assert prepared.dropped == ("output_tokens_max",)


def test_the_default_limit_makes_room_for_thinking() -> None:
    """As far as the model writes at all."""
    thinking: dict[str, object] = {"reasoning": {"tokens_max": 2048}}
    roomy = Candidate("v", "m", 50)
    assert prepare(ANTHROPIC, thinking, candidate=roomy).body["max_tokens"] == 2098
    short = Candidate("v", "m", 50, output_tokens_max=2060)
    assert prepare(ANTHROPIC, thinking, candidate=short).body["max_tokens"] == 2060


def test_adaptive_thinking_has_an_effort_and_no_budget() -> None:
    """Newer models refuse a budget, and can be told not to think."""
    quirks: dict[str, object] = {"thinking": "adaptive"}
    sent = body(ANTHROPIC, quirks, reasoning={"effort": "high", "tokens_max": 2048})
    assert sent["thinking"] == {"type": "adaptive"}
    assert sent["output_config"] == {"effort": "high"}
    sent = body(ANTHROPIC, quirks, reasoning={"effort": "none"})
    assert sent["thinking"] == {"type": "disabled"}
    assert "output_config" not in sent
