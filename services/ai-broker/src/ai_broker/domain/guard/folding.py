"""
One spelling for what looks alike, so that detectors need to know only one.

Full-width letters and digits, other scripts' digits, and the many spaces, hyphens
and at-signs become ASCII; characters without width disappear; JSON's escapes become
what they stand for. Only detectors see the result: ``Folded`` leads every place
back to the original, which is what gets masked.
"""

import re
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

_BMP: Final = range(0x80, 0x10000)
_MATHEMATICAL: Final = range(0x1D7CE, 0x1D800)
_SPACES: Final = "\u00a0\u2007\u2009\u202f\u3000"
_HYPHENS: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63"
_WIDTHLESS: Final = (
    "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
)
_ESCAPE: Final = r"\\u[0-9A-Fa-f]{4}|\\[\"\\/bfnrt]"
_WIDTHLESS_RUN: Final = re.compile(f"[{_WIDTHLESS}]+")
_SHORTENED: Final = re.compile(f"[{_WIDTHLESS}]+|{_ESCAPE}")
_UNICODE_ESCAPE: Final = 6
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _table() -> dict[int, str]:
    table = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    for code in (*_BMP, *_MATHEMATICAL):
        digit = unicodedata.decimal(chr(code), None)
        if digit is not None:
            table[code] = str(digit)
    table |= dict.fromkeys(map(ord, _SPACES), " ")
    table |= dict.fromkeys(map(ord, _HYPHENS), "-")
    return table | {ord("\ufe6b"): "@"}


_TABLE: Final = _table()
_LOOKALIKE: Final = re.compile(f"[{re.escape(''.join(map(chr, _TABLE)))}]")


@dataclass(frozen=True, slots=True)
class Folded:
    """A text as detectors read it."""

    text: str
    starts: Sequence[int] | None = None
    """Where each character begins in the original; None: at the same place."""
    ends: Sequence[int] = ()
    """Where each character ends there."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return the original's place of a piece that is not empty."""
        if self.starts is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """Return what detectors should read."""
    folded = Folded(text)
    if "\\" in text:
        folded = _shortened(text, _SHORTENED)
    elif not text.isascii() and _WIDTHLESS_RUN.search(text):
        folded = _shortened(text, _WIDTHLESS_RUN)
    if not folded.text.isascii() and _LOOKALIKE.search(folded.text):
        return replace(folded, text=folded.text.translate(_TABLE))
    return folded


def _shortened(text: str, pattern: re.Pattern[str]) -> Folded:
    kept: list[str] = []
    starts, ends = array("L"), array("L")
    at = 0
    for found in pattern.finditer(text):
        start, end = found.span()
        kept.append(text[at:start])
        starts.extend(range(at, start))
        ends.extend(range(at + 1, start + 1))
        if text[start] == "\\":
            kept.append(_unescaped(found[0]))
            starts.append(start)
            ends.append(end)
        at = end
    kept.append(text[at:])
    starts.extend(range(at, len(text)))
    ends.extend(range(at + 1, len(text) + 1))
    return Folded("".join(kept), starts, ends)


def _unescaped(escape: str) -> str:
    if len(escape) == _UNICODE_ESCAPE:
        return chr(int(escape.removeprefix(r"\u"), 16))
    return _ESCAPED.get(escape[1], escape[1])
