from typing import Any

import pytest
from gateway_world import completion_of
from question_world import USAGE, anthropic_question, openai_question

from contracts.completions import FinishReason
from gateway.domain.anthropic_answer import anthropic_message
from gateway.domain.openai_answer import chat_completion


def test_openais_counts_contain_their_details() -> None:
    """Totals are everything; what the cache did is part of the prompt."""
    usage: Any = chat_completion(
        completion_of(usage=USAGE.model_dump()), openai_question()
    )["usage"]
    assert usage["prompt_tokens"] == 1 + 2 + 4 + 8 + 16
    assert usage["completion_tokens"] == 32 + 64 + 128
    assert usage["total_tokens"] == USAGE.total
    prompt = {"cached_tokens": 2, "cache_write_tokens": 12, "audio_tokens": 16}
    assert usage["prompt_tokens_details"] == prompt
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 64


def test_anthropics_input_leaves_the_cache_out() -> None:
    """The three inputs add up to the prompt, and writes are split by their life."""
    usage: Any = anthropic_message(
        completion_of(usage=USAGE.model_dump(), service_tier="default"),
        anthropic_question(),
    )["usage"]
    assert usage == {
        "input_tokens": 1 + 16,
        "cache_read_input_tokens": 2,
        "cache_creation_input_tokens": 4 + 8,
        "cache_creation": {
            "ephemeral_5m_input_tokens": 4,
            "ephemeral_1h_input_tokens": 8,
        },
        "output_tokens": 32 + 64 + 128,
        "output_tokens_details": {"thinking_tokens": 64},
        "service_tier": "standard",
    }


@pytest.mark.parametrize("reason", list(FinishReason))
def test_every_end_has_a_word(reason: FinishReason) -> None:
    """In both protocols."""
    answer = completion_of(finish_reason=reason)
    choices: Any = chat_completion(answer, openai_question())["choices"]
    known = {"stop", "length", "tool_calls", "content_filter"}
    assert choices[0]["finish_reason"] in known
    stop = anthropic_message(answer, anthropic_question())["stop_reason"]
    assert stop in {"end_turn", "max_tokens", "tool_use", "refusal", "pause_turn"}


def test_a_refusal_in_words_is_told_in_each_protocols_way() -> None:
    """OpenAI's ``refusal`` beside a proper end, Anthropic's ``stop_details``."""
    answer = completion_of(
        {"kind": "refusal", "text": "I will not."}, finish_reason="refusal"
    )
    choices: Any = chat_completion(answer, openai_question())["choices"]
    assert choices[0]["message"]["refusal"] == "I will not."
    assert choices[0]["message"]["content"] is None
    assert choices[0]["finish_reason"] == "stop"
    message = anthropic_message(answer, anthropic_question())
    assert message["stop_reason"] == "refusal"
    details = {"type": "refusal", "category": None, "explanation": "I will not."}
    assert message["stop_details"] == details


def test_the_text_that_stopped_it_is_told() -> None:
    """Where the vendor said which one it was."""
    message = anthropic_message(
        completion_of(stop_sequence="END"), anthropic_question()
    )
    assert message["stop_reason"] == "stop_sequence"
    assert message["stop_sequence"] == "END"


def test_arguments_that_are_no_object_are_shown_whole() -> None:
    """Anthropic's form has only room for an object."""
    call = {"kind": "tool-call", "call_id": "c", "name": "add", "arguments": '{"a": '}
    message: Any = anthropic_message(completion_of(call), anthropic_question())
    assert message["content"][0]["input"] == {"INVALID_JSON": '{"a": '}
