"""
The sandbox's tokenizer: four UTF-8 bytes are a token.

A text of n bytes is ceil(n / 4) tokens. A turn adds 4 (its role and frame), a
tool on offer 8, a tool call 8, an image 85. A request costs the sum over its
turns, its tools (name, description, schema) and its answer schema. An answer
costs its text, its calls (name and argument text) and, when the caller sets a
reasoning effort, a fixed number of reasoning tokens. The same request and
answer therefore cost the same on both protocols, for ever.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count as numbers
from typing import Final

from sandbox.conversation import Answer, Conversation, Finish, Tool, ToolCall, Turn
from sandbox.payload import compact

BYTES_PER_TOKEN: Final = 4
TURN_TOKENS: Final = 4
TOOL_TOKENS: Final = 8
CALL_TOKENS: Final = 8
IMAGE_TOKENS: Final = 85
REASONING_TOKENS: Final = {
    "minimal": 8,
    "low": 32,
    "medium": 128,
    "high": 512,
    "xhigh": 1024,
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
    return TURN_TOKENS + count(turn.text) + calls + IMAGE_TOKENS * turn.images


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


def count_reasoning(conversation: Conversation) -> int:
    """Return the reasoning tokens that the asked effort costs."""
    return REASONING_TOKENS.get(conversation.reasoning_effort or "", 0)


def count_output(answer: Answer, reasoning: int) -> int:
    """Return the tokens of the answer, its reasoning included."""
    return reasoning + count(answer.text) + sum(map(count_call, answer.calls))


def cut_to_length(
    answer: Answer, tokens_max: int | None, stop: tuple[str, ...]
) -> Answer:
    """
    Apply stop sequences, then the length limit.

    A text is cut at the byte; a tool call that does not fit is left out whole.
    """
    found = [(answer.text.find(mark), mark) for mark in stop if mark in answer.text]
    if found:
        at, mark = min(found)
        answer = Answer(answer.text[:at], (), Finish.STOP_SEQUENCE, mark)
    if tokens_max is None or count_output(answer, 0) <= tokens_max:
        return answer
    data = answer.text.encode()[: tokens_max * BYTES_PER_TOKEN]
    text = data.decode(errors="ignore")
    left = tokens_max - count(text)
    kept: list[ToolCall] = []
    for call in answer.calls:
        left -= count_call(call)
        if left < 0:
            break
        kept.append(call)
    return replace(answer, text=text, calls=tuple(kept), finish=Finish.LENGTH)


def pieces(answer: Answer, spent: int, *, endless: bool = False) -> Iterator[Piece]:
    """
    Split an answer for streaming; the last piece's count is the whole's.

    ``spent`` tokens went into thinking before. An endless answer says its text again
    and again, numbered, until the reader stops.
    """
    sent = 0
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
