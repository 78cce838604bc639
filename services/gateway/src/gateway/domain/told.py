"""
What of an answer has been told in pieces, and what is left when it is whole.

A stream may end without having had every piece: a refusal comes only with the end,
and who joins late can miss some. The end has the whole answer, so the rest is told
then, and a stream and a whole answer never differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import assert_never

from contracts.completions import (
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from contracts.frames import ReasoningDelta, TextDelta, ToolCallDelta

Delta = TextDelta | ReasoningDelta | ToolCallDelta


class Contradicted(Exception):
    """The whole answer is not the one that was told in pieces."""


@dataclass
class Told:
    """Counts what was told of each part."""

    _characters: dict[int, int] = field(default_factory=dict[int, int])
    _sealed: set[int] = field(default_factory=set[int])
    """Parts whose signature, sealed form or call id was told."""

    def note(self, delta: Delta) -> None:
        """Count a piece that is being told."""
        match delta:
            case TextDelta():
                said, is_sealed = delta.text, False
            case ReasoningDelta():
                said = delta.text
                is_sealed = bool(delta.signature or delta.redacted)
            case ToolCallDelta():
                said, is_sealed = delta.arguments, delta.call_id is not None
            case _:
                assert_never(delta)
        before = self._characters.get(delta.part, 0)
        self._characters[delta.part] = before + len(said)
        if is_sealed:
            self._sealed.add(delta.part)

    def rest(self, parts: tuple[Part, ...]) -> Iterator[Delta]:
        """
        Yield what was not told, part by part; a refusal is no delta and left out.

        Raises:
            Contradicted: More was told than there is.
        """
        if any(index >= len(parts) for index in self._characters):
            raise Contradicted
        for index, part in enumerate(parts):
            match part:
                case TextPart():
                    text = self._rest(index, part.text)
                    if text:
                        yield TextDelta(part=index, text=text)
                case ReasoningPart():
                    yield from self._rest_of_reasoning(index, part)
                case ToolCallPart():
                    arguments = self._rest(index, part.arguments)
                    head = index not in self._sealed
                    if arguments or head:
                        yield ToolCallDelta(
                            part=index,
                            call_id=part.call_id if head else None,
                            name=part.name if head else None,
                            arguments=arguments,
                        )
                case _:
                    continue

    def _rest_of_reasoning(self, index: int, part: ReasoningPart) -> Iterator[Delta]:
        text = self._rest(index, part.text)
        is_sealed = index in self._sealed
        signature = None if is_sealed else part.signature
        redacted = None if is_sealed else part.redacted
        if text or signature or redacted:
            yield ReasoningDelta(
                part=index, text=text, signature=signature, redacted=redacted
            )

    def _rest(self, index: int, text: str) -> str:
        told = self._characters.get(index, 0)
        if told > len(text):
            raise Contradicted
        return text[told:]
