import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from question_world import ASKER

from contracts.completions import (
    CacheLife,
    ChatTurn,
    CompletionRequest,
    DocumentPart,
    ImagePart,
    OutputSchema,
    Part,
    ReasoningBudget,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)
from contracts.message import JsonObject
from gateway.domain.anthropic_answer import block as block_of
from gateway.domain.anthropic_error import anthropic_problem
from gateway.domain.anthropic_request import EXTRAS, read_anthropic
from gateway.domain.fields import Unfit

USER = {"role": "user", "content": "Hello"}
TOOL = {"name": "add", "input_schema": {"type": "object"}}
FIVE = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SCHEMA: JsonObject = {"type": "object", "properties": {"a": {"type": "integer"}}}
DATA = base64.b64encode(b"abc").decode()

WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"temperature": 1.5}, "temperature"),
    ({"stop_sequences": "x"}, "stop_sequences"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "deep"}}, "thinking.type"),
    ({"container": "c"}, "container"),
    ({"mcp_servers": []}, "mcp_servers"),
    ({"context_management": {}}, "context_management"),
    ({"metadata": {"team": "x"}}, "metadata.team"),
    ({"tool_choice": {"type": "auto"}}, "tool_choice"),
    ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0].type"),
    ({"tools": [TOOL | {"input_examples": []}]}, "tools[0].input_examples"),
    (
        {"tools": [TOOL | {"cache_control": {"type": "x"}}]},
        "tools[0].cache_control.type",
    ),
    ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
]
WRONG_BLOCKS: list[dict[str, Any]] = [
    {"type": "search_result"},
    {"type": "server_tool_use"},
    {"type": "image", "source": {"type": "file", "file_id": "f"}},
    {"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}},
    {
        "type": "image",
        "source": {"type": "base64", "media_type": "a/b", "data": "@"},
    },
    {"type": "document", "source": {"type": "content", "content": []}},
    {"type": "text", "text": "x", "citations": [{}]},
    {"type": "tool_use", "id": "t", "name": "a", "input": {}, **FIVE},
    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document"}]},
]


def read(**fields: Any) -> CompletionRequest:
    """Return the canonical form of a request with these fields."""
    whole = {"model": "smart", "max_tokens": 2000, "messages": [USER]} | fields
    return read_anthropic(whole, ASKER).request


def blocks(*content: Any, role: str = "user") -> tuple[Part, ...]:
    """Return the parts that blocks become."""
    return read(messages=[{"role": role, "content": list(content)}]).turns[0].parts


def refused(**fields: Any) -> Unfit:
    """Return why such a request is not taken."""
    with pytest.raises(Unfit) as caught:
        read(**fields)
    return caught.value


def test_every_plain_field_has_its_place() -> None:
    """Limits, stops, sampling, tier and user."""
    request = read(
        stop_sequences=["a", "b"],
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        service_tier="standard_only",
        metadata={"user_id": "u1"},
    )
    assert request.output_tokens_max == 2000
    assert request.stop == ("a", "b")
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 40}
    assert request.sampling.model_dump(exclude_none=True) == sampling
    assert request.service_tier == "standard_only"
    assert request.user == "u1"
    assert request.extra == {}
    assert not request.deltas


@pytest.mark.parametrize("name", EXTRAS)
def test_what_has_no_canonical_form_goes_on_as_it_is(name: str) -> None:
    """A vendor that has a place for it takes it; another one refuses it by name."""
    assert read(**{name: {"type": "ephemeral"}}).extra == {name: {"type": "ephemeral"}}


def test_marks_for_the_cache_stay_where_they_are() -> None:
    """On system, tools, turns and results, for five minutes or an hour."""
    request = read(
        system=[{"type": "text", "text": "Be brief", **HOUR}],
        tools=[TOOL | FIVE],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Hi", **FIVE}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "3", **HOUR}
                ],
            },
        ],
    )
    system, said, result = (turn.parts[0] for turn in request.turns)
    hour, five = CacheLife.ONE_HOUR, CacheLife.FIVE_MINUTES
    assert system == TextPart(text="Be brief", cache=hour)
    assert request.turns[0].role is Role.SYSTEM
    assert request.tools[0].cache is five
    assert said == TextPart(text="Hi", cache=five)
    text = (TextPart(text="3"),)
    assert result == ToolResultPart(call_id="t1", content=text, cache=hour)


def test_a_users_blocks_keep_their_order() -> None:
    """Pictures and documents by data, by address, as text."""
    web = {"type": "url", "url": "https://x.test/a"}
    data = {"type": "base64", "media_type": "image/png", "data": DATA}
    plain = {"type": "text", "media_type": "text/plain", "data": "grüße"}
    assert blocks(
        {"type": "image", "source": data, **FIVE},
        {"type": "image", "source": web},
        {"type": "document", "source": web, "title": "A"},
        {"type": "document", "source": data | {"media_type": "application/pdf"}},
        {"type": "document", "source": plain, "citations": {"enabled": False}},
    ) == (
        ImagePart(media_type="image/png", data=b"abc", cache=CacheLife.FIVE_MINUTES),
        ImagePart(url="https://x.test/a"),
        DocumentPart(media_type="application/pdf", url="https://x.test/a", name="A"),
        DocumentPart(media_type="application/pdf", data=b"abc"),
        DocumentPart(media_type="text/plain", data="grüße".encode()),
    )


def test_a_result_may_hold_pictures_and_a_failure() -> None:
    """Both arrive with the call's id."""
    source = {"type": "base64", "media_type": "image/png", "data": DATA}
    (result,) = blocks(
        {
            "type": "tool_result",
            "tool_use_id": "t1",
            "is_error": True,
            "content": [
                {"type": "text", "text": "no"},
                {"type": "image", "source": source},
            ],
        }
    )
    assert result == ToolResultPart(
        call_id="t1",
        content=(
            TextPart(text="no"),
            ImagePart(media_type="image/png", data=b"abc"),
        ),
        is_error=True,
    )


def test_an_assistants_start_stays_the_last_turn() -> None:
    """A prefill is a turn like any other."""
    request = read(messages=[USER, {"role": "assistant", "content": "The answer is"}])
    start = (TextPart(text="The answer is"),)
    assert request.turns[-1] == ChatTurn(role=Role.ASSISTANT, parts=start)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "any"}, ToolChoice(mode=ToolMode.REQUIRED)),
        ({"type": "none"}, ToolChoice(mode=ToolMode.NONE)),
        (
            {"type": "tool", "name": "add", "disable_parallel_tool_use": True},
            ToolChoice(mode=ToolMode.NAMED, name="add", parallel=False),
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": False},
            ToolChoice(parallel=True),
        ),
    ],
)
def test_how_tools_may_be_used(choice: Any, expected: ToolChoice) -> None:
    """Every form of the choice, and whether several may come at once."""
    assert read(tools=[TOOL], tool_choice=choice).tool_choice == expected


def test_thinking_with_a_budget_has_a_canonical_form() -> None:
    """So a vendor of another protocol can tell what is wanted."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    assert read(thinking=thinking).reasoning == ReasoningBudget(tokens_max=1024)


@pytest.mark.parametrize(
    "thinking",
    [
        {"type": "adaptive"},
        {"type": "between_tools"},
        {"type": "adaptive", "display": "omitted"},
        {"type": "enabled", "budget_tokens": 1024, "display": "summarized"},
    ],
)
def test_other_thinking_goes_on_as_it_is(thinking: Any) -> None:
    """Nothing of it is lost on the way to a vendor that has a place for it."""
    request = read(thinking=thinking)
    assert request.extra == {"thinking": thinking}
    assert request.reasoning is None


def test_no_thinking_has_a_canonical_form_too() -> None:
    """So every vendor can be told; beside an effort it goes on as it is."""
    off = {"type": "disabled"}
    assert read(thinking=off).reasoning == ReasoningBudget(effort="none")
    request = read(thinking=off, output_config={"effort": "low"})
    assert request.reasoning == ReasoningBudget(effort="low")
    assert request.extra == {"thinking": off}


def test_a_schema_arrives_in_either_place() -> None:
    """The SDK's helpers have written it in both."""
    wanted = {"type": "json_schema", "schema": SCHEMA}
    expected = OutputSchema(json_schema=SCHEMA)
    assert read(output_format=wanted).output_schema == expected
    request = read(output_config={"format": wanted, "effort": "max"})
    assert request.output_schema == expected
    assert request.reasoning == ReasoningBudget(effort="max")
    both = refused(output_format=wanted, output_config={"format": wanted})
    assert both.field == "output_format"


def test_an_unknown_field_is_refused_as_anthropic_does() -> None:
    """In its own words."""
    problem = anthropic_problem(refused(zzz=1))
    assert problem.detail == "zzz: Extra inputs are not permitted"


@pytest.mark.parametrize(("fields", "where"), WRONG_FIELDS)
def test_a_wrong_field_is_named(fields: Any, where: str) -> None:
    """Wherever it stands."""
    assert refused(**fields).field == where


@pytest.mark.parametrize("block", WRONG_BLOCKS)
def test_a_block_that_cannot_be_carried_is_refused(block: Any) -> None:
    """The message says which one."""
    found = refused(messages=[{"role": "user", "content": [block]}])
    assert found.field.startswith("messages[0].content[0]")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.from_regex(r"[a-z_]{1,10}", fullmatch=True)
arguments = st.dictionaries(st.text(max_size=5), json_values, max_size=3).map(
    lambda each: json.dumps(each, separators=(",", ":"), ensure_ascii=False)
)
answers = st.lists(
    st.one_of(
        st.builds(TextPart, text=st.text()),
        st.builds(ReasoningPart, text=st.text(), signature=names),
        st.builds(ReasoningPart, text=st.text()),
        st.builds(ReasoningPart, redacted=names),
        st.builds(ToolCallPart, call_id=names, name=names, arguments=arguments),
    ),
    min_size=1,
    max_size=6,
)


@given(answers)
def test_what_we_answered_comes_back_as_it_was(parts: list[Part]) -> None:
    """Order, signatures, sealed reasoning and calls survive the trip."""
    sent = json.loads(json.dumps([block_of(part) for part in parts]))
    assert blocks(*sent, role="assistant") == tuple(parts)
