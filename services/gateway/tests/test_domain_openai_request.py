import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from question_world import ASKER

from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    DocumentPart,
    ImagePart,
    OutputSchema,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)
from contracts.message import JsonObject
from gateway.domain.fields import Unfit
from gateway.domain.openai_answer import message as message_of
from gateway.domain.openai_error import openai_problem
from gateway.domain.openai_request import EXTRAS, REFUSED, read_openai

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"a": 1}}}
PNG = "data:image/png;base64,iVBORw0KGgo="
SCHEMA: JsonObject = {"type": "object", "properties": {"a": {"type": "integer"}}}

WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 7}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": "Hello"}, "messages"),
    ({"messages": ["Hello"]}, "messages[0]"),
    ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"n": 2}, "n"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"seed": 1.5}, "seed"),
    ({"stop": [1]}, "stop"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tools": [TOOL] * 129}, "tools"),
    ({"tools": [{"type": "custom"}]}, "tools[0].type"),
    ({"tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice"),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"user": "u" * 257}, "user"),
    ({"response_format": {"type": "grammar"}}, "response_format.type"),
]


def read(**fields: Any) -> CompletionRequest:
    """Return the canonical form of a request with these fields."""
    return read_openai({"model": "smart", "messages": [USER]} | fields, ASKER).request


def turns(*messages: Any) -> tuple[ChatTurn, ...]:
    """Return the turns that messages become."""
    return read(messages=list(messages)).turns


def refused(**fields: Any) -> Unfit:
    """Return why such a request is not taken."""
    with pytest.raises(Unfit) as caught:
        read(**fields)
    return caught.value


def test_who_asks_is_not_the_bodys_to_say() -> None:
    """Tenant, key, id and deadline come from the asker alone."""
    request = read()
    assert (request.tenant, request.api_key_id) == ("acme", "k1")
    assert request.completion_id == "cmpl_1"
    assert (request.deadline - ASKER.now).total_seconds() == 60
    assert (read(stream=True).deadline - ASKER.now).total_seconds() == 600


def test_every_sampling_field_has_its_place() -> None:
    """What is set arrives, and what is not set stays the vendor's default."""
    given_fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "frequency_penalty": -1.0,
        "presence_penalty": 1.5,
        "logprobs": True,
        "top_logprobs": 3,
    }
    sampling = read(**given_fields).sampling
    assert sampling.model_dump(exclude_none=True) == given_fields
    assert read().sampling.model_dump(exclude_none=True) == {}


def test_the_rest_of_the_fields_has_its_place() -> None:
    """Limits, stops, effort, tier, metadata and user."""
    request = read(
        max_completion_tokens=10,
        stop=["a", "b"],
        reasoning_effort="high",
        service_tier="flex",
        metadata={"a": "b"},
        user="u1",
        n=1,
        modalities=["text"],
        store=False,
        stream=None,
    )
    assert request.output_tokens_max == 10
    assert request.stop == ("a", "b")
    assert request.reasoning is not None
    assert request.reasoning.effort == "high"
    assert request.service_tier == "flex"
    assert request.metadata == {"a": "b"}
    assert request.user == "u1"
    assert request.extra == {}
    assert read(max_tokens=9, stop="x").output_tokens_max == 9
    assert read(stop="x").stop == ("x",)


@pytest.mark.parametrize("name", EXTRAS)
def test_what_has_no_canonical_form_goes_on_as_it_is(name: str) -> None:
    """A vendor that has a place for it takes it; another one refuses it by name."""
    assert read(**{name: {"50256": -100}}).extra == {name: {"50256": -100}}


def test_stored_and_plain_json_answers_go_on_as_they_are() -> None:
    """Neither has a canonical form."""
    assert read(store=True).extra == {"store": True}
    wanted = {"type": "json_object"}
    assert read(response_format=wanted).extra == {"response_format": wanted}
    assert read(response_format={"type": "text"}).extra == {}


def test_a_schema_arrives_whole() -> None:
    """Strictness is OpenAI's default, which is no, unless it is asked for."""
    wanted = {"name": "out", "schema": SCHEMA, "strict": True}
    found = read(response_format={"type": "json_schema", "json_schema": wanted})
    expected = OutputSchema(name="out", json_schema=SCHEMA, strict=True)
    assert found.output_schema == expected
    wanted = {"name": "out", "schema": SCHEMA}
    found = read(response_format={"type": "json_schema", "json_schema": wanted})
    assert found.output_schema is not None
    assert not found.output_schema.strict


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_are_the_systems(role: str) -> None:
    """``developer`` is the newer word for it."""
    (turn, _) = turns({"role": role, "content": "Be brief", "name": "boss"}, USER)
    expected = ChatTurn(
        role=Role.SYSTEM, parts=(TextPart(text="Be brief"),), name="boss"
    )
    assert turn == expected


def test_a_users_parts_keep_their_order() -> None:
    """Text, pictures by data and by address, and a document."""
    pdf = base64.b64encode(b"%PDF-1.7").decode()
    (turn,) = turns(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
                {"type": "file", "file": {"file_data": pdf, "filename": "a.pdf"}},
                {"type": "file", "file": {"file_data": "data:text/csv;base64,YSxi"}},
            ],
        }
    )
    assert turn.parts == (
        TextPart(text="Look"),
        ImagePart(
            media_type="image/png", data=base64.b64decode("iVBORw0KGgo="), detail="low"
        ),
        ImagePart(url="https://x.test/a.png"),
        DocumentPart(media_type="application/pdf", data=b"%PDF-1.7", name="a.pdf"),
        DocumentPart(media_type="text/csv", data=b"a,b"),
    )


def test_a_round_of_tools_arrives_whole() -> None:
    """Parallel calls, their arguments as the model wrote them, and each result."""
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": '}}
    _, said, first, second = turns(
        USER,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call | {"id": "c1"}, call | {"id": "c2"}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [{"type": "text", "text": "4"}],
        },
    )
    assert said.parts == tuple(
        ToolCallPart(call_id=each, name="add", arguments='{"a": ')
        for each in ("c1", "c2")
    )
    assert first.parts == (ToolResultPart(call_id="c1", content=(TextPart(text="3"),)),)
    assert second.parts == (
        ToolResultPart(call_id="c2", content=(TextPart(text="4"),)),
    )
    assert first.role is second.role is Role.TOOL


@pytest.mark.parametrize(
    ("given_fields", "expected"),
    [
        ({}, ToolChoice()),
        ({"tool_choice": "auto"}, ToolChoice()),
        ({"tool_choice": "none"}, ToolChoice(mode=ToolMode.NONE)),
        ({"tool_choice": "required"}, ToolChoice(mode=ToolMode.REQUIRED)),
        (
            {"tool_choice": {"type": "function", "function": {"name": "add"}}},
            ToolChoice(mode=ToolMode.NAMED, name="add"),
        ),
        ({"parallel_tool_calls": False}, ToolChoice(parallel=False)),
    ],
)
def test_how_tools_may_be_used(given_fields: Any, expected: ToolChoice) -> None:
    """Every form of the choice, and whether several may come at once."""
    assert read(tools=[TOOL], **given_fields).tool_choice == expected


def test_a_tool_without_parameters_takes_none() -> None:
    """As OpenAI defines it."""
    (tool,) = read(tools=[{"type": "function", "function": {"name": "now"}}]).tools
    assert tool.parameters == {"type": "object", "properties": {}}


@pytest.mark.parametrize("name", [*REFUSED, "zzz"])
def test_what_cannot_be_done_is_refused_by_name(name: str) -> None:
    """Nothing that a caller sends is dropped in silence."""
    assert refused(**{name: {"a": 1}}).field == name


def test_an_unknown_argument_is_refused_as_openai_does() -> None:
    """In its own words, with the field as ``param``."""
    problem = openai_problem(refused(zzz=1))
    assert problem.detail == "Unrecognized request argument supplied: zzz"
    assert problem.errors[0].pointer == "zzz"
    inside = openai_problem(refused(messages=[USER | {"mood": "good"}]))
    assert inside.detail == "Unknown parameter: 'messages[0].mood'."


@pytest.mark.parametrize(("fields", "where"), WRONG_FIELDS)
def test_a_wrong_field_is_named(fields: Any, where: str) -> None:
    """Wherever it stands."""
    assert refused(**fields).field == where


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "YWJj"}},
        {"type": "text", "text": "x", "prompt_cache_breakpoint": {}},
        {"type": "refusal", "refusal": "no"},
    ],
)
def test_a_part_that_cannot_be_carried_is_refused(part: Any) -> None:
    """The message says which one."""
    found = refused(messages=[{"role": "user", "content": [part]}])
    assert found.field.startswith("messages[0].content[0]")


names = st.from_regex(r"[a-z_]{1,10}", fullmatch=True)
answers = st.tuples(
    st.lists(
        st.one_of(
            st.builds(ReasoningPart, text=st.text(min_size=1), signature=names),
            st.builds(ReasoningPart, redacted=names),
        ),
        max_size=2,
    ),
    st.lists(st.builds(TextPart, text=st.text(min_size=1)), max_size=1),
    st.lists(st.builds(RefusalPart, text=st.text(min_size=1)), max_size=1),
    st.lists(
        st.builds(ToolCallPart, call_id=names, name=names, arguments=st.text()),
        max_size=3,
    ),
).filter(any)


@given(answers)
def test_what_we_answered_comes_back_as_it_was(groups: Any) -> None:
    """Signatures, sealed reasoning, refusals and broken arguments survive the trip."""
    parts = tuple(part for group in groups for part in group)
    sent = json.loads(json.dumps(message_of(parts)))
    assert turns(USER, sent)[1].parts == parts


@given(st.text(min_size=1))
def test_unsigned_reasoning_comes_back_too(text: str) -> None:
    """Compatible vendors want it in ``reasoning_content``."""
    parts = (ReasoningPart(text=text), TextPart(text="x"))
    assert turns(USER, message_of(parts))[1].parts == parts
