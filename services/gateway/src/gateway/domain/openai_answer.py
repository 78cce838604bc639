"""An answer as a chat completion."""

from collections.abc import Sequence
from typing import Final

from contracts.completions import (
    Completion,
    FinishReason,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from contracts.message import Json, JsonObject
from contracts.usage import TokenUsage
from gateway.domain.question import Question, bare_id

FINISH: Final = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.REFUSAL: "content_filter",
    FinishReason.PAUSE: "length",
}
TIERS: Final = {"standard": "default"}
"""Anthropic's word for the tier that both have."""


def chat_completion(completion: Completion, _question: Question) -> JsonObject:
    """Return the whole answer."""
    choice: JsonObject = {
        "index": 0,
        "message": message(completion.parts),
        "logprobs": completion.logprobs,
        "finish_reason": finish_reason(completion),
    }
    return {
        "id": chat_id(completion.completion_id),
        "object": "chat.completion",
        "created": int(completion.created_at.timestamp()),
        "model": completion.model,
        "choices": [choice],
        "usage": usage_of(completion.usage),
        "service_tier": tier(completion.service_tier),
        "system_fingerprint": None,
    }


def chat_id(completion_id: str) -> str:
    """Return the id in OpenAI's style."""
    return f"chatcmpl-{bare_id(completion_id)}"


def message(parts: Sequence[Part]) -> JsonObject:
    """Return the assistant's message; texts and refusals are one each here."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    calls: list[Json] = [
        {
            "id": part.call_id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments},
        }
        for part in parts
        if isinstance(part, ToolCallPart)
    ]
    said: JsonObject = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": refusal_of(parts),
        "annotations": [],
    }
    if calls:
        said["tool_calls"] = calls
    reasoning = [part for part in parts if isinstance(part, ReasoningPart)]
    if any(part.text for part in reasoning):
        said["reasoning_content"] = "".join(part.text for part in reasoning)
    details = reasoning_details(parts)
    if details:
        said["reasoning_details"] = details
    return said


def refusal_of(parts: Sequence[Part]) -> str | None:
    """Return the vendor's words of refusal."""
    words = [part.text for part in parts if isinstance(part, RefusalPart)]
    return "".join(words) if words else None


def reasoning_details(parts: Sequence[Part]) -> list[Json]:
    """
    Return the reasoning as it must be given back; nothing when no vendor signed it.

    Unsigned reasoning is whole in ``reasoning_content``.
    """
    reasoning = [part for part in parts if isinstance(part, ReasoningPart)]
    if not any(part.signature or part.redacted for part in reasoning):
        return []
    return [_detail(part) for part in reasoning]


def _detail(part: ReasoningPart) -> JsonObject:
    if part.redacted is not None:
        return {"type": "reasoning.encrypted", "data": part.redacted}
    return {
        "type": "reasoning.text",
        "text": part.text,
        "signature": part.signature,
    }


def finish_reason(completion: Completion) -> str:
    """Return why it ended; a refusal in words is a proper end to OpenAI."""
    has_words = refusal_of(completion.parts) is not None
    if completion.finish_reason is FinishReason.REFUSAL and has_words:
        return "stop"
    return FINISH[completion.finish_reason]


def tier(returned: str | None) -> str | None:
    """Return the tier in OpenAI's words."""
    return None if returned is None else TIERS.get(returned, returned)


def usage_of(usage: TokenUsage) -> JsonObject:
    """Return the counts: totals, and details that are parts of them."""
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    prompt = (
        usage.input_tokens
        + usage.cache_read_tokens
        + written
        + usage.input_audio_tokens
    )
    output = usage.output_tokens + usage.reasoning_tokens + usage.output_audio_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": written,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
