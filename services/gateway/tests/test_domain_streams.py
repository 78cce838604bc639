import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from gateway_world import completion_of
from hypothesis import given
from hypothesis import strategies as st
from question_world import USAGE, anthropic_question, openai_question

from contracts.completions import (
    Completion,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from contracts.frames import ReasoningDelta, TextDelta, ToolCallDelta
from contracts.problems import Code, problem
from gateway.domain.anthropic_answer import anthropic_message
from gateway.domain.anthropic_stream import AnthropicStream
from gateway.domain.openai_answer import chat_completion
from gateway.domain.openai_stream import OpenAIStream
from gateway.domain.told import Contradicted, Delta

WITH_USAGE = openai_question(stream=True, stream_options={"include_usage": True})


def chunks_of(sent: bytes) -> list[Any]:
    """Return the data of server-sent events, ``[DONE]`` as it is."""
    lines = [x for x in sent.decode().split("\n") if x.startswith("data: ")]
    texts = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def gathered_chat(chunks: Sequence[Any]) -> dict[str, Any]:
    """Put chunks together as a client does."""
    message: dict[str, Any] = {"content": "", "calls": {}, "reasoning_content": ""}
    for chunk in chunks:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            message["reasoning_content"] += delta.get("reasoning_content") or ""
            for name in ("refusal", "reasoning_details"):
                if delta.get(name) is not None:
                    message[name] = delta[name]
            for call in delta.get("tool_calls", ()):
                known = message["calls"].setdefault(
                    call["index"], {"id": "", "name": "", "arguments": ""}
                )
                known["id"] += call.get("id", "")
                known["name"] += call["function"].get("name", "")
                known["arguments"] += call["function"]["arguments"]
            message["finish_reason"] = choice["finish_reason"]
    return message


def gathered_blocks(events: Sequence[Any]) -> list[Any]:
    """Put events together as Anthropic's SDK does; one block is open at a time."""
    blocks: list[Any] = []
    opened: int | None = None
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert opened is None
                opened = event["index"]
                assert opened == len(blocks)
                blocks.append(event["content_block"] | {"json": ""})
            case "content_block_delta":
                assert event["index"] == opened
                delta = event["delta"]
                names = {"text_delta": "text", "thinking_delta": "thinking"}
                kind = delta["type"]
                if kind in names:
                    blocks[-1][names[kind]] += delta[names[kind]]
                elif kind == "signature_delta":
                    blocks[-1]["signature"] = delta["signature"]
                else:
                    blocks[-1]["json"] += delta["partial_json"]
            case "content_block_stop":
                assert event["index"] == opened
                opened = None
            case _:
                continue
    assert opened is None
    for block in blocks:
        written = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(written or "{}")
    return blocks


def deltas_of(index: int, part: Part, cuts: Sequence[int]) -> list[Delta]:
    """Take a part to pieces at these places."""
    if isinstance(part, RefusalPart):
        return []
    text = (
        part.arguments if isinstance(part, ToolCallPart) else getattr(part, "text", "")
    )
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    match part:
        case TextPart():
            return [TextDelta(part=index, text=each) for each in pieces]
        case ToolCallPart():
            head = ToolCallDelta(part=index, call_id=part.call_id, name=part.name)
            return [head, *(ToolCallDelta(part=index, arguments=x) for x in pieces)]
        case ReasoningPart() if part.redacted is not None:
            return [ReasoningDelta(part=index, redacted=part.redacted)]
        case ReasoningPart():
            said = [ReasoningDelta(part=index, text=each) for each in pieces]
            if part.signature is not None:
                said.append(ReasoningDelta(part=index, signature=part.signature))
            return [*said]
        case _:
            raise AssertionError(part)


names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
texts = st.text(min_size=1, max_size=12)
arguments = st.dictionaries(names, st.integers(0, 9), max_size=2).map(json.dumps)
any_part: st.SearchStrategy[Part] = st.one_of(
    st.builds(TextPart, text=texts),
    st.builds(ReasoningPart, text=texts, signature=st.none() | names),
    st.builds(ReasoningPart, redacted=names),
    st.builds(ToolCallPart, call_id=names, name=names, arguments=arguments),
)
refusals: st.SearchStrategy[Part] = st.builds(RefusalPart, text=texts)


@st.composite
def streams(draw: st.DrawFn, *, mixed: bool) -> tuple[Completion, list[Delta]]:
    """Draw an answer and some of its pieces in a possible order; the rest is lost."""
    parts = draw(st.lists(any_part, min_size=1, max_size=4))
    parts += draw(st.lists(refusals, max_size=1))
    queues = [
        deltas_of(index, part, draw(st.lists(st.integers(0, 99), max_size=3)))
        for index, part in enumerate(parts)
    ]
    told: list[Delta] = []
    while any(queues):
        waiting = [queue for queue in queues if queue]
        queue = draw(st.sampled_from(waiting)) if mixed else waiting[0]
        told.append(queue.pop(0))
    kept = told[: draw(st.integers(0, len(told)))]
    return completion_of(*(part.model_dump() for part in parts)), kept


def expected_chat(completion: Completion) -> dict[str, Any]:
    """Return the whole answer in the form that ``gathered_chat`` has."""
    whole = chat_completion(completion, openai_question())["choices"]
    assert isinstance(whole, list)
    choice: Any = whole[0]
    said = choice["message"]
    found: dict[str, Any] = {
        "content": said["content"] or "",
        "reasoning_content": said.get("reasoning_content", ""),
        "calls": {
            at: {"id": call["id"], **call["function"]}
            for at, call in enumerate(said.get("tool_calls", ()))
        },
        "finish_reason": choice["finish_reason"],
    }
    for name in ("refusal", "reasoning_details"):
        if said.get(name) is not None:
            found[name] = said[name]
    return found


@given(streams(mixed=False))
def test_openais_stream_is_its_whole_answer(
    drawn: tuple[Completion, list[Delta]],
) -> None:
    """Whatever came in pieces and whatever was missed, the client has all of it."""
    completion, told = drawn
    stream = OpenAIStream(WITH_USAGE, 1)
    sent = b"".join(map(stream.delta, told)) + stream.finish(completion)
    *chunks, done = chunks_of(sent)
    assert done == "[DONE]"
    assert gathered_chat(chunks) == expected_chat(completion)


@given(streams(mixed=True))
def test_openais_mixed_pieces_lose_nothing(
    drawn: tuple[Completion, list[Delta]],
) -> None:
    """Calls stay whole, whichever began first."""
    completion, told = drawn
    stream = OpenAIStream(WITH_USAGE, 1)
    sent = b"".join(map(stream.delta, told)) + stream.finish(completion)
    found, whole = gathered_chat(chunks_of(sent)[:-1]), expected_chat(completion)
    for each in (found, whole):
        each["calls"] = sorted(map(str, each["calls"].values()))
        for name in ("content", "reasoning_content"):
            each[name] = sorted(each[name])
    assert found == whole


@given(streams(mixed=False))
def test_anthropics_stream_is_its_whole_answer(
    drawn: tuple[Completion, list[Delta]],
) -> None:
    """Pieces in order give the very blocks that the whole answer has."""
    completion, told = drawn
    stream = AnthropicStream(anthropic_question(), None)
    sent = b"".join(map(stream.delta, told)) + stream.finish(completion)
    events = chunks_of(sent)
    whole = anthropic_message(completion, anthropic_question())
    assert gathered_blocks(events) == whole["content"]
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"]
    assert events[-2]["usage"] == whole["usage"]


@given(streams(mixed=True))
def test_anthropics_mixed_pieces_lose_nothing(
    drawn: tuple[Completion, list[Delta]],
) -> None:
    """
    A vendor that mixes its parts gets no block wrong.

    Blocks may come in another order and text in more than one; calls stay whole.
    """
    completion, told = drawn
    stream = AnthropicStream(anthropic_question(), None)
    sent = b"".join(map(stream.delta, told)) + stream.finish(completion)
    found = gathered_blocks(chunks_of(sent))
    whole: Any = anthropic_message(completion, anthropic_question())["content"]

    def calls(blocks: Any) -> list[str]:
        return sorted(str(x) for x in blocks if x["type"] == "tool_use")

    assert calls(found) == calls(whole)
    for name in ("text", "thinking", "signature", "data"):
        said = sorted("".join(x.get(name, "") for x in found))
        assert said == sorted("".join(x.get(name, "") for x in whole))


def test_two_calls_at_once_are_told_one_after_the_other() -> None:
    """The second one's pieces wait until the first one is whole."""
    stream = AnthropicStream(anthropic_question(), None)
    one, two = (
        ToolCallDelta(part=at, call_id=f"c{at}", name="add", arguments='{"a":')
        for at in (0, 1)
    )
    assert stream.delta(one)
    assert stream.delta(two) == b""
    assert stream.delta(ToolCallDelta(part=0, arguments="1}"))
    answer = completion_of(
        {"kind": "tool-call", "call_id": "c0", "name": "add", "arguments": '{"a":1}'},
        {"kind": "tool-call", "call_id": "c1", "name": "add", "arguments": '{"a":2}'},
        finish_reason="tool-calls",
    )
    events = chunks_of(stream.finish(answer))
    starts = [x["content_block"]["id"] for x in events if "content_block" in x]
    assert starts == ["c1"]


@pytest.mark.parametrize("make", [OpenAIStream, AnthropicStream])
def test_an_answer_that_says_something_else_is_no_end(make: Any) -> None:
    """What was told cannot be taken back, so the stream must not end cleanly."""
    stream = make(WITH_USAGE, 1)
    stream.delta(TextDelta(part=0, text="Hello"))
    with pytest.raises(Contradicted):
        stream.finish(completion_of({"kind": "text", "text": "Hi"}))
    with pytest.raises(Contradicted):
        stream.finish(completion_of())


def test_usage_comes_as_openai_defines_it() -> None:
    """Null on every chunk, then one more chunk without choices; or not at all."""
    answer = completion_of({"kind": "text", "text": "Hi"}, usage=USAGE.model_dump())
    stream = OpenAIStream(WITH_USAGE, 1)
    first = stream.delta(TextDelta(part=0, text="Hi"))
    *chunks, last, done = chunks_of(first + stream.finish(answer))
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == USAGE.total
    assert done == "[DONE]"
    quiet = OpenAIStream(openai_question(stream=True), 1)
    sent = quiet.delta(TextDelta(part=0, text="Hi")) + quiet.finish(answer)
    assert all("usage" not in chunk for chunk in chunks_of(sent)[:-1])
    heads = {(x["id"], x["created"], x["object"]) for x in chunks}
    assert heads == {("chatcmpl-1", 1, "chat.completion.chunk")}


def test_log_probabilities_come_with_the_end() -> None:
    """Untouched, and all at once."""
    found = {"content": [{"token": "Hi", "logprob": -0.1}]}
    answer = completion_of({"kind": "text", "text": "Hi"}, logprobs=found)
    stream = OpenAIStream(openai_question(stream=True), 1)
    *_, end, _ = chunks_of(stream.finish(answer))
    assert end["choices"][0]["logprobs"] == found
    choices: Any = chat_completion(answer, openai_question())["choices"]
    assert choices[0]["logprobs"] == found


def test_an_error_in_a_stream_is_the_vendors_own() -> None:
    """And no end follows it."""
    cut = problem(Code.STREAM_CUT, "the answer broke off")
    (openai,) = chunks_of(OpenAIStream(WITH_USAGE, 1).failure(cut))
    assert openai["error"] == {
        "message": "the answer broke off",
        "type": "server_error",
        "param": None,
        "code": "stream_cut",
    }
    sent = AnthropicStream(anthropic_question(), "req_1").failure(cut)
    assert sent.startswith(b"event: error\n")
    (anthropic,) = chunks_of(sent)
    error = {"type": "api_error", "message": "the answer broke off"}
    assert anthropic == {"type": "error", "error": error, "request_id": "req_1"}
