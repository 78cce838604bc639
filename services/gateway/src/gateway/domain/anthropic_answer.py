"""An answer as a message."""

from collections.abc import Sequence
from typing import Final

import orjson

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

STOP: Final = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.REFUSAL: "refusal",
    FinishReason.PAUSE: "pause_turn",
}
TIERS: Final = {"default": "standard"}
"""OpenAI's word for the tier that both have."""


def anthropic_message(completion: Completion, _question: Question) -> JsonObject:
    """Return the whole answer."""
    said = (part for part in completion.parts if not isinstance(part, RefusalPart))
    return {
        "id": message_id(completion.completion_id),
        "type": "message",
        "role": "assistant",
        "model": completion.model,
        "content": [block(part) for part in said],
        **ending(completion),
        "usage": usage_of(completion.usage, completion.service_tier),
    }


def message_id(completion_id: str) -> str:
    """Return the id in Anthropic's style."""
    return f"msg_{bare_id(completion_id)}"


def ending(completion: Completion) -> JsonObject:
    """Return why it ended; words of refusal are its explanation."""
    reason = STOP[completion.finish_reason]
    stopped_by = completion.stop_sequence
    if stopped_by is not None and completion.finish_reason is FinishReason.STOP:
        reason = "stop_sequence"
    return {
        "stop_reason": reason,
        "stop_sequence": stopped_by,
        "stop_details": _details(completion.parts),
    }


def block(part: Part) -> JsonObject:
    """Return a part of an answer as a content block."""
    match part:
        case TextPart():
            return {"type": "text", "text": part.text, "citations": None}
        case ReasoningPart():
            if part.redacted is not None:
                return {"type": "redacted_thinking", "data": part.redacted}
            signature = part.signature or ""
            return {"type": "thinking", "thinking": part.text, "signature": signature}
        case ToolCallPart():
            return {
                "type": "tool_use",
                "id": part.call_id,
                "name": part.name,
                "input": _input(part.arguments),
            }
        case _:
            message = f"an answer has no {part.kind} part"
            raise ValueError(message)


def usage_of(usage: TokenUsage, service_tier: str | None) -> JsonObject:
    """Return the counts: input without what the cache read or wrote."""
    written_5m, written_1h = usage.cache_write_5m_tokens, usage.cache_write_1h_tokens
    output = usage.output_tokens + usage.reasoning_tokens + usage.output_audio_tokens
    found: JsonObject = {
        "input_tokens": usage.input_tokens + usage.input_audio_tokens,
        "cache_creation_input_tokens": written_5m + written_1h,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written_5m,
            "ephemeral_1h_input_tokens": written_1h,
        },
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }
    if service_tier is not None:
        found["service_tier"] = TIERS.get(service_tier, service_tier)
    return found


def _details(parts: Sequence[Part]) -> Json:
    words = [part.text for part in parts if isinstance(part, RefusalPart)]
    if not words:
        return None
    return {"type": "refusal", "category": None, "explanation": "".join(words)}


def _input(arguments: str) -> Json:
    """
    Return a call's arguments as an object.

    What the model wrote and is no JSON object stands whole inside one, as Anthropic
    advises, so that whoever runs the tool can see the mistake.
    """
    try:
        parsed: Json = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": arguments}
