"""
The sandbox's tokenizer: four UTF-8 bytes are a token.

A text of n bytes is ceil(n / 4) tokens. A turn adds 4 (its role and frame), a
tool on offer 8, a tool call 8, an image 85, a page of a PDF 1500. A request costs
the sum over its turns, its tools (name, description, schema) and its answer schema.
An answer costs its text, its calls (name and argument text), its thought and, where
thinking stays unseen, a number of tokens by the effort asked. The same request and
answer therefore cost the same on both protocols, for ever.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count as numbers
from typing import Final

from sandbox.conversation import (
    Answer,
    Conversation,
    Finish,
    Sight,
    Thought,
    Tool,
    ToolCall,
    Turn,
)
from sandbox.payload import compact

BYTES_PER_TOKEN: Final = 4
TURN_TOKENS: Final = 4
TOOL_TOKENS: Final = 8
CALL_TOKENS: Final = 8
IMAGE_TOKENS: Final = 85
PAGE_TOKENS: Final = 1500
REASONING_TOKENS: Final = {
    "minimal": 8,
    "low": 32,
    "medium": 128,
    "high": 512,
    "xhigh": 1024,
    "max": 2048,
}
PIECE_CHARS_MIN: Final = 12


class PieceKind(StrEnum):
    """What a streamed piece carries."""

    THINKING = "thinking"
    SIGNATURE = "signature"
    SEALED = "sealed"
    TEXT = "text"
    CALL_START = "call_start"
    CALL_ARGUMENTS = "call_arguments"


@dataclass(frozen=True)
class Piece:
    """
    A streamed part; ``tokens_so_far`` counts the answer up to and with it.

    ``opens`` says that a block begins with it: thinking, text or a call.
    """

    kind: PieceKind
    text: str
    call_index: int
    tokens_so_far: int
    opens: bool = False


def count(text: str) -> int:
    """Return the tokens of a text: ceil(UTF-8 bytes / 4)."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def count_turn(turn: Turn) -> int:
    """Return the tokens of one turn with its calls and images."""
    calls = sum(count_call(call) for call in turn.calls)
    said = count(turn.text) + count(turn.thinking)
    seen = IMAGE_TOKENS * turn.images + PAGE_TOKENS * turn.pages
    return TURN_TOKENS + said + calls + seen


def count_call(call: ToolCall) -> int:
    """Return the tokens of one tool call."""
    return CALL_TOKENS + count(call.name) + count(compact(call.arguments))


def count_frame(conversation: Conversation) -> int:
    """Return the tokens of what surrounds the turns: tools and answer schema."""
    tools = sum(_count_tool(tool) for tool in conversation.tools)
    schema = conversation.answer_schema
    return tools + (count(compact(schema)) if schema is not None else 0)


def count_input(conversation: Conversation) -> int:
    """Return the tokens of the whole request."""
    turns = sum(count_turn(turn) for turn in conversation.turns)
    return count_frame(conversation) + turns


def count_reasoning(conversation: Conversation, thought: Thought | None) -> int:
    """Return the tokens of the thought, or those that the asked effort costs."""
    if thought is not None:
        return count(thought.text)
    return REASONING_TOKENS.get(conversation.reasoning_effort or "", 0)


def count_output(answer: Answer, reasoning: int) -> int:
    """Return the tokens of the answer, its reasoning included."""
    return reasoning + count(answer.text) + sum(map(count_call, answer.calls))


def cut_to_length(
    answer: Answer, tokens_max: int | None, stop: tuple[str, ...], reasoning: int = 0
) -> Answer:
    """
    Apply stop sequences, then the length limit, of which reasoning takes its part.

    A text is cut at the byte; a tool call that does not fit is left out whole.
    """
    found = [(answer.text.find(mark), mark) for mark in stop if mark in answer.text]
    if found:
        at, mark = min(found)
        answer = Answer(answer.text[:at], (), Finish.STOP_SEQUENCE, mark)
    if tokens_max is None or count_output(answer, reasoning) <= tokens_max:
        return answer
    left = max(tokens_max - reasoning, 0)
    data = answer.text.encode()[: left * BYTES_PER_TOKEN]
    text = data.decode(errors="ignore")
    left -= count(text)
    kept: list[ToolCall] = []
    for call in answer.calls:
        left -= count_call(call)
        if left < 0:
            break
        kept.append(call)
    return replace(answer, text=text, calls=tuple(kept), finish=Finish.LENGTH)


def pieces(
    answer: Answer,
    reasoning: int,
    thought: Thought | None = None,
    *,
    endless: bool = False,
) -> Iterator[Piece]:
    """
    Split an answer for streaming; the last piece's count is the whole's.

    ``reasoning`` tokens went into the thought, seen or not. An endless answer says
    its text again and again, numbered, until the reader stops.
    """
    if thought is not None:
        yield from _thought_pieces(thought, reasoning)
    spent, sent = reasoning, 0
    said = _for_ever(answer.text) if endless else split(answer.text)
    for text in said:
        opens = not sent
        sent += len(text.encode())
        so_far = spent + -(-sent // BYTES_PER_TOKEN)
        yield Piece(PieceKind.TEXT, text, 0, so_far, opens)
    done = spent + -(-sent // BYTES_PER_TOKEN)
    for index, call in enumerate(answer.calls):
        start = done + CALL_TOKENS + count(call.name)
        yield Piece(PieceKind.CALL_START, call.name, index, start, opens=True)
        sent = 0
        for text in split(compact(call.arguments)):
            sent += len(text.encode())
            so_far = start + -(-sent // BYTES_PER_TOKEN)
            yield Piece(PieceKind.CALL_ARGUMENTS, text, index, so_far)
        done += count_call(call)


def _thought_pieces(thought: Thought, reasoning: int) -> Iterator[Piece]:
    if thought.sight is Sight.REDACTED:
        yield Piece(PieceKind.SEALED, thought.seal, 0, reasoning, opens=True)
        return
    sent = 0
    for text in split(thought.text) if thought.sight is not Sight.OMITTED else [""]:
        opens = not sent
        sent += len(text.encode())
        so_far = min(-(-sent // BYTES_PER_TOKEN), reasoning)
        yield Piece(PieceKind.THINKING, text, 0, so_far, opens)
    if thought.sight is not Sight.PLAIN:
        yield Piece(PieceKind.SIGNATURE, thought.seal, 0, reasoning)


def split(text: str) -> Iterator[str]:
    """Split at word ends into pieces of at least ``PIECE_CHARS_MIN`` characters."""
    piece = ""
    for word in re.findall(r"\s*\S{1,24}\s*|\s+", text):
        piece += word
        if len(piece) >= PIECE_CHARS_MIN:
            yield piece
            piece = ""
    if piece:
        yield piece


def _for_ever(text: str) -> Iterator[str]:
    for turn in numbers(1):
        yield from split(f"{text} ({turn}) ")


def _count_tool(tool: Tool) -> int:
    schema = compact(tool.parameters)
    return TOOL_TOKENS + sum(map(count, (tool.name, tool.description, schema)))
