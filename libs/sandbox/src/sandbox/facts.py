"""
What documents say, line by line, and what a calculator makes of their sums.

``Words: value`` is a label, a first line without one is ``From``, and two words label
a token with a digit behind them. A line that ends in quantity, unit price and amount is
an item: the amount should be their product. Below, a line that ends in an amount is a
total if it says total or due, and should be the sum of the amounts above, items as
calculated; else, with cents, a charge. Columns have two spaces, a tab, a currency or
one of ``|x*@=`` between them, before cents one space.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

NUMBER: Final = r"(?:(?<!\w)-)?\d{1,12}(?:[.,]\d{1,6})*"
LINE_CHARS_MAX: Final = 300
QUOTES_MAX: Final = 3
_CURRENCY: Final = r"\b(?:EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|JPY|CNY)\b|[€$£¥]"
_WIDE: Final = rf"\s*(?:{_CURRENCY})\s*|\s{{3,}}|\t"
_GAP: Final = r"(?:\s*[|x×*@=]\s*|\s\s+|\s(?=\S*[.,]\d\d\b))"
_ROW = re.compile(
    rf"\W*(?:\d+\W\W+)?(?=.*[A-Za-z])(\w.*?)(?:[\s:|]+({NUMBER})(?: ?[A-Za-z]+)?"
    rf"{_GAP}({NUMBER}))?(?::?{_GAP}|: )({NUMBER})\W*"
)
_LABEL = re.compile(r"[>\s*-]*([A-Z][A-Za-z .&/-]{1,40}?)\s*:\s+(\S.*)")
_MENTION = re.compile(r"\b([A-Za-z]{3,}\s[A-Za-z]{3,})\s((?=[\w-]*\d)[\w-]+)")
_BREAK = re.compile(r"\n\s*\n|(?<=[.!?])\s+")

Calculate = Callable[[str], Decimal | None]  # None: its value is not known


@dataclass(frozen=True)
class Claim:
    """An amount that a line states, and what it should be."""

    kind: str
    label: str
    stated: Decimal
    expression: str
    calculated: Decimal | None

    @property
    def labels(self) -> dict[str, str]:
        """Its numbers by name; what could not be calculated counts as 0."""
        right = self.calculated or Decimal(0)
        return {
            f"Stated {self.kind}": str(self.stated),
            f"Calculated {self.kind}": str(right),
            "Difference": str(right - self.stated),
        }


@dataclass(frozen=True)
class Facts:
    """What is known from documents, or from one line of them."""

    text: str
    labels: dict[str, str]
    claims: Sequence[Claim] = ()

    @property
    def wrong(self) -> list[Claim]:
        """The claims that were not found right."""
        return [each for each in self.claims if each.calculated != each.stated]

    def gist(self, topic: str) -> str:
        """Tell the wrong sums; without sums, quote what is nearest to the topic."""
        if self.claims:
            told = [f"{c.label}: {c.stated}, not {c.calculated}." for c in self.wrong]
            return " ".join(told) or "All sums are right."
        wanted = {*words(topic)}
        pieces = (" ".join(each.split()) for each in _BREAK.split(self.text))
        quotes = [each for each in pieces if each.endswith((".", "!", "?"))]
        quotes.sort(key=lambda each: -len(wanted & {*words(each)}))
        return " ".join(quotes[:QUOTES_MAX]) or self.text


def read(texts: Sequence[str], calculate: Calculate) -> Facts:
    """Take in documents, one after the other."""
    labels: dict[str, str] = {}
    claims: list[Claim] = []
    for text in texts:
        start = len(claims)
        for position, line in enumerate(text.strip().splitlines()):
            plain = line.strip()[:LINE_CHARS_MAX]
            claim = _claim(re.sub(_WIDE, "  ", plain), claims[start:], calculate)
            if claim:
                claims.append(claim)
                labels |= claim.labels
            elif label := _LABEL.fullmatch(plain):
                labels.setdefault(label[1], label[2])
            elif position == 0:
                labels.setdefault("From", plain)
    whole = "\n\n".join(texts)
    codes = [("Currency", code) for code in re.findall(_CURRENCY, whole)]
    for name, value in (*codes, *_MENTION.findall(whole)):
        labels.setdefault(name, value)
    return Facts(whole, labels, claims)


def _claim(line: str, above: Sequence[Claim], calculate: Calculate) -> Claim | None:
    row = _ROW.fullmatch(line)
    if row is None or not (row[3] or above):
        return None
    kind, label, stated = "item", row[1], parse_number(row[4])
    if row[3]:
        expression = f"{parse_number(row[2])} * {parse_number(row[3])}"
    elif re.search(r"total|\bdue\b", label, re.IGNORECASE):
        kind, parts = "total", [c.calculated for c in above if c.kind != "total"]
        # A sum waits for its parts, so that none of it is done without the calculator.
        expression = "" if None in parts else " + ".join(map(str, parts))
    else:
        has_cents = re.search(r"[.,]\d\d$", row[4])
        return Claim("charge", label, stated, "", stated) if has_cents else None
    value = calculate(expression) if expression else None
    return Claim(kind, label, stated, expression, value)


def parse_number(written: str) -> Decimal:
    """Read what ``NUMBER`` matched: 1,234.50 or 1.234,50, 12,5 or 12.5."""
    plain = re.sub(r",(?=\d{3}(?!\d))|\.(?=\d{3},)", "", written).replace(",", ".")
    whole, point, cents = plain.rpartition(".")
    return Decimal(whole.replace(".", "") + point + cents)


def evaluate(expression: str) -> Decimal:
    """Work out products and their sum: ``2 * 3 + 4``."""
    products = (map(Decimal, each.split("*")) for each in expression.split("+"))
    return sum((math.prod(each, start=Decimal(1)) for each in products), Decimal(0))


def words(text: str) -> list[str]:
    """List the words of three letters or more, cut to five: matches is like match."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower()
    return [each.rstrip("s")[:5] for each in re.findall(r"[a-z]{3,}", spaced)]
