"""
An answer in pieces, its placeholders replaced as they complete.

A vendor cuts its answer anywhere: ``<EMA`` and ``IL_1>``. So the end of a text that
could still become a placeholder of this request is held back, never more than one
placeholder's length, and nothing else is. Whatever the pieces, together they are the
whole answer with its placeholders replaced.

Text, refusals and tool calls' arguments are restored. Reasoning is not: it may be
signed, and must go back to the vendor as it came.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, assert_never

from ai_broker.domain.guard.vault import TOKEN, TOKEN_CHARACTERS_MAX, json_string
from ai_broker.domain.vendor import (
    Declined,
    Done,
    Piece,
    Reasoning,
    Text,
    ToolCallPiece,
)

_ESCAPED_PAIR: Final = r"\\\\"
_ESCAPED_TOKEN: Final = TOKEN.pattern.replace("<", r"\\u003[cC]").replace(
    ">", r"\\u003[eE]"
)
_IN_JSON: Final = re.compile(f"{_ESCAPED_PAIR}|{TOKEN.pattern}|{_ESCAPED_TOKEN}")


@dataclass(frozen=True)
class Spelling:
    """How placeholders are written in one kind of text, and what replaces them."""

    pattern: re.Pattern[str]
    replacements: Mapping[str, str]

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.replacements)

    def split(self, text: str) -> tuple[str, str]:
        """Return what is certain, restored, and the end that is not certain yet."""
        pieces: list[str] = []
        at = 0
        for found in self.pattern.finditer(text):
            pieces.append(text[at : found.start()])
            pieces.append(self.replacements.get(found[0], found[0]))
            at = found.end()
        held = self._uncertain_from(text, at)
        pieces.append(text[at:held])
        return "".join(pieces), text[held:]

    def _uncertain_from(self, text: str, at: int) -> int:
        for start in range(max(at, len(text) - TOKEN_CHARACTERS_MAX), len(text)):
            if text[start] in "<\\" and self._may_become(text[start:]):
                return start
        return len(text)

    def _may_become(self, beginning: str) -> bool:
        place = bisect_left(self._sorted, beginning)
        return place < len(self._sorted) and self._sorted[place].startswith(beginning)


class Restorations:
    """What one request's placeholders stand for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    @classmethod
    def none(cls) -> "Restorations":
        """Return those of a request in which nothing is to be restored."""
        return cls({})

    def __bool__(self) -> bool:
        """Tell whether anything may have to be put back."""
        return bool(self._values)

    def restore(self, text: str) -> str:
        """Return a whole text with its values back."""
        restored, rest = self.plain.split(text)
        return restored + rest

    @cached_property
    def plain(self) -> Spelling:
        """Placeholders in a text."""
        return Spelling(TOKEN, self._values)

    @cached_property
    def in_json(self) -> Spelling:
        """Placeholders in JSON text, where some vendors escape angle brackets."""
        spelled: dict[str, str] = {}
        for token, value in self._values.items():
            escaped = json_string(value)[1:-1]
            spelled[token] = escaped
            for less, greater in (("c", "e"), ("C", "E")):
                word = f"\\u003{less}{token[1:-1]}\\u003{greater}"
                spelled[word] = escaped
        return Spelling(_IN_JSON, spelled)


class Restoring:
    """One vendor call's pieces on their way to the caller."""

    def __init__(self, restorations: Restorations) -> None:
        self._restorations = restorations
        self._held: dict[int, Piece] = {}

    def feed(self, piece: Piece) -> Iterator[Piece]:
        """Yield what is certain of a piece and of what was held back before it."""
        if not self._restorations or isinstance(piece, Reasoning):
            yield piece
            return
        held = self._held.pop(piece.part, None)
        before = "" if held is None else _text_of(held)
        said = _text_of(piece)
        certain, rest = self._spelling(piece).split(before + said)
        if rest:
            self._held[piece.part] = _with_text(_continued(piece), rest)
        if certain or not said:
            yield _with_text(piece, certain)
        elif isinstance(piece, ToolCallPiece) and (piece.call_id or piece.name):
            yield _with_text(piece, "")

    def end(self) -> Iterator[Piece]:
        """Yield what was held back: the answer is over, so it is no placeholder."""
        for part in sorted(self._held):
            yield self._held[part]
        self._held.clear()

    def ended(self, done: Done) -> Done:
        """Return the end, the stop text that it names restored."""
        if done.stop_sequence is None or not self._restorations:
            return done
        stop = self._restorations.restore(done.stop_sequence)
        return replace(done, stop_sequence=stop)

    def _spelling(self, piece: Piece) -> Spelling:
        if isinstance(piece, ToolCallPiece):
            return self._restorations.in_json
        return self._restorations.plain


def _text_of(piece: Piece) -> str:
    return piece.arguments if isinstance(piece, ToolCallPiece) else piece.text


def _with_text(piece: Piece, text: str) -> Piece:
    match piece:
        case Text() | Declined() | Reasoning():
            return replace(piece, text=text)
        case ToolCallPiece():
            return replace(piece, arguments=text)
        case _:
            assert_never(piece)


def _continued(piece: Piece) -> Piece:
    """Return a piece without what comes only once."""
    if isinstance(piece, ToolCallPiece):
        return replace(piece, call_id=None, name=None)
    return piece
