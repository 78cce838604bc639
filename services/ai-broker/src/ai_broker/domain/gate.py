"""
The first-token gate: what a vendor says is held until it says something real.

An answer that breaks before its first content can be asked of another vendor, and
nobody notices. So beginnings, empty pieces and reasoning alone wait here; the first
text, tool call or refusal lets everything through, from then on at once. A bound on
what is held keeps a long reasoning from waiting in memory.
"""

from typing import Final, assert_never

from ai_broker.domain.vendor import Declined, Piece, Reasoning, Text, ToolCallPiece

PIECES_MAX: Final = 64
CHARACTERS_MAX: Final = 256 * 1024


class Gate:
    """Shut until the first content, then open for good."""

    def __init__(self) -> None:
        self._held: list[Piece] = []
        self._characters = 0
        self.is_open = False

    def take(self, piece: Piece) -> tuple[Piece, ...]:
        """Return what may be told now, in order; nothing while shut."""
        if self.is_open:
            return (piece,)
        self._held.append(piece)
        self._characters += _size(piece)
        is_full = len(self._held) >= PIECES_MAX or self._characters >= CHARACTERS_MAX
        return self.release() if is_full or is_content(piece) else ()

    def release(self) -> tuple[Piece, ...]:
        """Open it, whatever is held; return that."""
        self.is_open = True
        held, self._held = tuple(self._held), []
        return held


def is_content(piece: Piece) -> bool:
    """Tell whether a piece is something that a caller asked for."""
    match piece:
        case Text(_, text) | Declined(_, text):
            return bool(text)
        case ToolCallPiece(_, _, name, arguments):
            return bool(name or arguments)
        case Reasoning():
            return False
        case _:
            assert_never(piece)


def _size(piece: Piece) -> int:
    match piece:
        case Text(_, text) | Declined(_, text):
            return len(text)
        case ToolCallPiece(_, _, _, arguments):
            return len(arguments)
        case Reasoning(_, text, _, redacted):
            return len(text) + len(redacted or "")
        case _:
            assert_never(piece)
