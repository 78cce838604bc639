"""
Token counts for calls whose vendor never told: never zero, always flagged.

The rules are rough on purpose and err upward, since an estimate is what a budget
must already have held back; the vendor's report corrects it by a higher revision.

    Latin text        one token per 4 characters, rounded up
    other scripts     one token per character (Chinese, Japanese, Korean, emoji…)
    a turn, a tool    4 tokens of framing beside their text
    an image          1 600 tokens: the largest that Anthropic counts for one
    a document        one token per 20 bytes, at least 1 600; 6 000 by URL
    vectors           no tokens: their texts are all that is counted
    an unheard answer the answer's own limit, or 4 096 where none was given
"""

from collections.abc import Callable, Iterable
from typing import Final, assert_never

import orjson

from ai_broker.domain.embedding import EmbeddingQuestion
from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    DocumentPart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from contracts.usage import TokenUsage

CHARACTERS_PER_TOKEN: Final = 4
BYTES_PER_TOKEN: Final = 20
FRAMING_TOKENS: Final = 4
IMAGE_TOKENS: Final = 1_600
DOCUMENT_URL_TOKENS: Final = 6_000
UNHEARD_TOKENS: Final = 4_096


def text_tokens(text: str) -> int:
    """Return roughly how many tokens a text has."""
    latin = len(text.encode("ascii", "ignore"))
    return -(-latin // CHARACTERS_PER_TOKEN) + len(text) - latin


def text_tokens_at_most(text: str) -> int:
    """Return how many tokens a text has at most: a token has at least one byte."""
    return len(text.encode("utf-8", "replace"))


def input_tokens(request: CompletionRequest) -> int:
    """Return roughly how many tokens a request sends; at least 1."""
    return _input_tokens(request, text_tokens)


def input_tokens_at_most(request: CompletionRequest) -> int:
    """Return how many tokens a request's texts have at most, and roughly the rest."""
    return _input_tokens(request, text_tokens_at_most)


def _input_tokens(request: CompletionRequest, count: Callable[[str], int]) -> int:
    if isinstance(request, EmbeddingQuestion):
        return max(sum(map(count, request.inputs)), 1)
    tokens = sum(_turn_tokens(turn, count) for turn in request.turns)
    for tool in request.tools:
        schema = orjson.dumps(tool.parameters).decode()
        tokens += FRAMING_TOKENS + count(tool.name + tool.description + schema)
    if request.output_schema is not None:
        tokens += count(orjson.dumps(request.output_schema.json_schema).decode())
    return max(tokens, 1)


def unheard(request: CompletionRequest) -> TokenUsage:
    """Return what a call may have cost of which nothing was heard."""
    if isinstance(request, EmbeddingQuestion):
        return TokenUsage(input_tokens=input_tokens(request))
    return TokenUsage(
        input_tokens=input_tokens(request),
        output_tokens=request.output_tokens_max or UNHEARD_TOKENS,
    )


def heard(request: CompletionRequest, parts: Iterable[Part]) -> TokenUsage:
    """Return what a call cost of which these parts arrived."""
    if isinstance(request, EmbeddingQuestion):
        return unheard(request)
    spoken = reasoned = 0
    for part in parts:
        if isinstance(part, ReasoningPart):
            reasoned += _part_tokens(part)
        else:
            spoken += _part_tokens(part)
    return TokenUsage(
        input_tokens=input_tokens(request),
        output_tokens=max(spoken, 1),
        reasoning_tokens=reasoned,
    )


def completed_from(snapshot: TokenUsage, arrived: TokenUsage) -> TokenUsage:
    """
    Return the vendor's early counts, with the answer as far as it arrived.

    Args:
        snapshot: The vendor's last snapshot; its input counts are exact.
        arrived: Our estimate of the same call.
    """
    return snapshot.model_copy(
        update={
            "output_tokens": max(snapshot.output_tokens, arrived.output_tokens),
            "reasoning_tokens": max(
                snapshot.reasoning_tokens, arrived.reasoning_tokens
            ),
        }
    )


def _turn_tokens(turn: ChatTurn, count: Callable[[str], int]) -> int:
    return FRAMING_TOKENS + sum(_part_tokens(part, count) for part in turn.parts)


def _part_tokens(part: Part, count: Callable[[str], int] = text_tokens) -> int:
    match part:
        case TextPart() | RefusalPart():
            return count(part.text)
        case ReasoningPart():
            return count(part.text + (part.redacted or ""))
        case ToolCallPart():
            return FRAMING_TOKENS + count(part.name + part.arguments)
        case ToolResultPart():
            return FRAMING_TOKENS + sum(
                _part_tokens(each, count) for each in part.content
            )
        case ImagePart():
            return IMAGE_TOKENS
        case DocumentPart():
            if part.data is None:
                return DOCUMENT_URL_TOKENS
            return max(IMAGE_TOKENS, len(part.data) // BYTES_PER_TOKEN)
        case _:
            assert_never(part)
