"""
One request's placeholders, and what they stand for.

    <EMAIL_1>      the first address found; the same address is <EMAIL_1> again
    <EMAIL_2X1>    the same in series 2, where the tenant wrote ``<EMAIL_1>`` itself

Numbers follow the order of first appearance, so a conversation that only grows keeps
its placeholders, and a vendor's prompt cache keeps its prefix.
"""

import json
import re
from functools import cached_property
from typing import Final

from ai_broker.domain.guard.detectors import Detectors
from contracts.message import Json

TOKEN: Final = re.compile(
    r"<[A-Z]{2,16}(?:_[A-Z]{2,16}){0,2}_(?:([0-9]{1,9})X)?[0-9]{1,9}>"
)
TOKEN_CHARACTERS_MAX: Final = 84
"""The longest placeholder, its brackets escaped as in JSON."""
_SERIES: Final = re.compile(r"(?:<|\\u003[cC])[A-Z_]{2,50}_(?:([0-9]{1,9})X)?[0-9]")
# Possessive, and an unclosed one reaches to the end: so it is linear in any text.
_LITERAL: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NUMBER: Final = re.compile(r"-?[0-9][0-9.eE+-]*")
_PASSES_MAX: Final = 8


class Vault:
    """Masks texts and remembers what it masked."""

    def __init__(self, detectors: Detectors, series: int = 0) -> None:
        self._detectors = detectors
        self._series = f"{series}X" if series else ""
        self._tokens: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        self.foreign_series: set[int] = set()
        """Series of placeholders that the texts already had in them."""

    @cached_property
    def values(self) -> dict[str, str]:
        """Return placeholder → value; asked for once masking is over."""
        return {token: value for (_, value), token in self._tokens.items()}

    def mask(self, text: str, *, ours: bool = False) -> str:
        """
        Return a text with placeholders for personal data.

        Args:
            text: What may hold some.
            ours: Whether placeholders in it are known to be our own.
        """
        if not ours:
            self._note(text)
        return self._masked(text, _PASSES_MAX)

    def mask_json_text(self, text: str) -> str:
        """Return a JSON text with its strings and numbers masked; valid stays valid."""
        if not self._detectors.own and not self._detectors.spans(text):
            self._note(text)
            return text
        pieces: list[str] = []
        at = 0
        for literal in _LITERAL.finditer(text):
            pieces.append(self._between(text[at : literal.start()]))
            pieces.append(self._literal(literal[0]))
            at = literal.end()
        pieces.append(self._between(text[at:]))
        return "".join(pieces)

    def mask_json(self, value: Json) -> Json:
        """Return a JSON value with its strings, names included, masked."""
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, list):
            return [self.mask_json(each) for each in value]
        if isinstance(value, dict):
            return {self.mask(key): self.mask_json(each) for key, each in value.items()}
        return value

    def _note(self, text: str) -> None:
        if "<" in text or "\\u003" in text:
            for found in _SERIES.finditer(text):
                self.foreign_series.add(int(found[1] or 0))

    def _masked(self, text: str, passes: int) -> str:
        spans = self._detectors.spans(text)
        if not spans:
            return text
        pieces: list[str] = []
        at = 0
        for start, end, name in spans:
            # A neighbour that is gone may have hidden something: look again.
            pieces.append(self._rest(text[at:start], passes))
            pieces.append(self._token(name, text[start:end]))
            at = end
        pieces.append(self._rest(text[at:], passes))
        return "".join(pieces)

    def _rest(self, text: str, passes: int) -> str:
        return self._masked(text, passes - 1) if text and passes else text

    def _token(self, name: str, value: str) -> str:
        token = self._tokens.get((name, value))
        if token is None:
            number = self._counts[name] = self._counts.get(name, 0) + 1
            token = self._tokens[name, value] = f"<{name}_{self._series}{number}>"
        return token

    def _literal(self, literal: str) -> str:
        try:
            said = json.loads(literal, strict=False)
        except ValueError:
            return self.mask(literal)
        masked = self.mask(said)
        return literal if masked == said else json_string(masked)

    def _between(self, text: str) -> str:
        """Mask what stands outside of strings: numbers, or anything in invalid JSON."""
        pieces: list[str] = []
        at = 0
        for number in _NUMBER.finditer(text):
            masked = self.mask(number[0])
            if masked != number[0]:
                pieces += (self.mask(text[at : number.start()]), f'"{masked}"')
                at = number.end()
        pieces.append(self.mask(text[at:]))
        return "".join(pieces)


def json_string(text: str) -> str:
    """Return a text as JSON, escaped no more than UTF-8 requires."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)
