"""An answer put together piece by piece, and taken apart again for a repeat."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, assert_never

from ai_broker.domain import embedding
from ai_broker.domain.vendor import (
    Declined,
    Piece,
    Reasoning,
    Text,
    ToolCallPiece,
    Vectors,
)
from contracts.completions import (
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from contracts.frames import (
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    VectorsDelta,
)

SLICE_CHARACTERS: Final = 16_384
PIECE_WEIGHT: Final = 4

Delta = TextDelta | ReasoningDelta | ToolCallDelta


@dataclass
class _Gathered:
    """The pieces of one part; joined once, at the end."""

    first: Piece
    texts: list[str] = field(default_factory=list[str])
    call_id: str = ""
    name: str = ""
    signature: str | None = None
    redacted: str | None = None


class Answer:
    """The parts that have arrived so far."""

    def __init__(self) -> None:
        self._parts: dict[int, _Gathered] = {}
        self._vectors: dict[int, bytes] = {}
        self.weight = 0
        """Characters so far, and something for every piece, which may be empty."""

    def add(self, piece: Piece) -> None:
        """Append a piece to its part."""
        gathered = self._parts.setdefault(piece.part, _Gathered(piece))
        self.weight += PIECE_WEIGHT + _length(piece)
        match piece:
            case Text(_, text) | Declined(_, text):
                gathered.texts.append(text)
            case Reasoning(_, text, signature, redacted):
                gathered.texts.append(text)
                gathered.signature = signature or gathered.signature
                gathered.redacted = redacted or gathered.redacted
            case ToolCallPiece(_, call_id, name, arguments):
                gathered.texts.append(arguments)
                gathered.call_id = gathered.call_id or call_id or ""
                gathered.name = gathered.name or name or ""
            case _:
                assert_never(piece)

    def add_vectors(self, some: Vectors) -> None:
        """Put vectors in their places."""
        self._vectors.update(enumerate(some.vectors, some.first))

    @property
    def empty(self) -> bool:
        """Whether nothing has arrived."""
        return not self._parts and not self._vectors

    @property
    def refused(self) -> bool:
        """Whether the vendor declined."""
        return any(isinstance(each.first, Declined) for each in self._parts.values())

    def parts(self) -> tuple[Part, ...]:
        """Return the parts in their order."""
        return tuple(_part(self._parts[index]) for index in sorted(self._parts))

    def vectors(self) -> tuple[bytes, ...]:
        """Return the vectors in the order of their inputs."""
        return tuple(self._vectors[index] for index in sorted(self._vectors))


def vector_deltas(vectors: tuple[bytes, ...]) -> Iterator[VectorsDelta]:
    """Return the frames that vectors come in, none too large."""
    for first, some in embedding.batches(vectors):
        yield VectorsDelta(first=first, vectors=some)


def delta_of(piece: Piece) -> Delta | None:
    """Return the frame that carries a piece; a refusal only comes with the end."""
    match piece:
        case Text(part, text):
            return TextDelta(part=part, text=text)
        case Reasoning(part, text, signature, redacted):
            return ReasoningDelta(
                part=part, text=text, signature=signature, redacted=redacted
            )
        case ToolCallPiece(part, call_id, name, arguments):
            return ToolCallDelta(
                part=part, call_id=call_id, name=name, arguments=arguments
            )
        case Declined():
            return None
        case _:
            assert_never(piece)


def deltas_of(parts: tuple[Part, ...]) -> Iterator[Delta]:
    """Return the frames that a stored answer would have come in, none too large."""
    for index, part in enumerate(parts):
        match part:
            case TextPart():
                for text in _slices(part.text):
                    yield TextDelta(part=index, text=text)
            case ReasoningPart():
                for text in _slices(part.text):
                    yield ReasoningDelta(part=index, text=text)
                if part.signature is not None:
                    yield ReasoningDelta(part=index, signature=part.signature)
                if part.redacted is not None:
                    yield ReasoningDelta(part=index, redacted=part.redacted)
            case ToolCallPart():
                yield ToolCallDelta(part=index, call_id=part.call_id, name=part.name)
                for text in _slices(part.arguments):
                    yield ToolCallDelta(part=index, arguments=text)
            case _:
                continue


def _slices(text: str) -> Iterator[str]:
    for start in range(0, len(text), SLICE_CHARACTERS):
        yield text[start : start + SLICE_CHARACTERS]


def _length(piece: Piece) -> int:
    match piece:
        case Text(_, text) | Declined(_, text):
            return len(text)
        case Reasoning(_, text, signature, redacted):
            return len(text) + len(signature or "") + len(redacted or "")
        case ToolCallPiece(_, call_id, name, arguments):
            return len(arguments) + len(call_id or "") + len(name or "")
        case _:
            assert_never(piece)


def _part(gathered: _Gathered) -> Part:
    text = "".join(gathered.texts)
    match gathered.first:
        case Text():
            return TextPart(text=text)
        case Declined():
            return RefusalPart(text=text)
        case Reasoning():
            return ReasoningPart(
                text=text, signature=gathered.signature, redacted=gathered.redacted
            )
        case ToolCallPiece():
            return ToolCallPart(
                call_id=gathered.call_id, name=gathered.name, arguments=text
            )
        case _:
            assert_never(gathered.first)
