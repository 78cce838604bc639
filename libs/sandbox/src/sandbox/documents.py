"""
Read what a document says: labelled values, line items, sums, sentences.

A *label* is ``Words: value`` in a cell (cells are parted by ``|``, a tab or two
spaces). A *line item* is ``3 x Widget @ 12.50 = 37.50``, ``Widget: 3 x 12.50 =
37.50``, or a row whose last three numeric cells are quantity, unit price and
amount. A *sum row* starts with Total, Subtotal, VAT, Shipping and the like, and
ends in a number; with a percentage it is a rate on the subtotal. Numbers may be
written 1,234.50 or 1.234,50. Everything else that reads like prose is sentences.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

ITEMS_MAX: Final = 200
ROW_CHARS_MAX: Final = 300
NUMBER: Final = r"[-−]?\d+(?:[.,']\d+)*"
CURRENCY: Final = r"(?:EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CNY|JPY|€|\$|£|¥)"
SYMBOLS: Final = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY"}
_MONEY = rf"{CURRENCY}?\s?({NUMBER})\s?{CURRENCY}?"
_UNIT = (
    r"(?:(?:pcs|pc|pieces?|units?|boxes|box|hours?|hrs?|h|days?|kg|m|packs?)\b"
    r"\.?)"
)
_CELL = re.compile(
    rf"{CURRENCY}?\s?({NUMBER})\s?(?:{CURRENCY}|{_UNIT})?", re.IGNORECASE
)
_ITEM_FORMS = (
    re.compile(
        rf"^\W{{0,6}}(?P<qty>{NUMBER})\s*{_UNIT}?\s*[x×*]?\s+(?P<label>\D.*?)\s*(?:@|\bat|à)"
        rf"\s*{_MONEY}\s*(?:each)?\s*[=:]\s*{_MONEY}\W*$",
        re.IGNORECASE,
    ),
    re.compile(
        rf"^\W{{0,6}}(?P<label>\D.*?)[:\s]\s*(?P<qty>{NUMBER})\s*{_UNIT}?\s*[x×*@]"
        rf"\s*{_MONEY}\s*=\s*{_MONEY}\W*$",
        re.IGNORECASE,
    ),
)
_SUM_ROW = re.compile(
    r"^\W{0,6}(?P<label>(?:sub-?\s?total|net(?: total| amount)?|vat|tax|mwst|gst"
    r"|shipping|freight|delivery|postage|handling|discount|(?:grand |invoice )?total"
    r"(?: amount)?(?: due| payable)?|amount (?:due|payable)|balance due)\b)"
    rf"(?P<rest>.*?)(?:[:=|\t]|\s{{2,}}|\b{CURRENCY}|[€$£])\s*{_MONEY}[\s|.]*$",
    re.IGNORECASE,
)
_RATE = re.compile(r"(\d+(?:[.,]\d+)?)\s*%")
_LABEL = re.compile(r"^[>\s*-]*([A-Z][A-Za-z .&/#-]{1,40}?)\s*:\s+(\S.*)$")
_WIDE_GAP = re.compile(r"\s{3,}")
_CELLS = re.compile(r"\s{2,}|\t|\s*\|\s*")
_GREETING = re.compile(
    r"^(dear|hi|hello|kind regards|best|regards|yours|sincerely|thanks|on .* wrote)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")


@dataclass(frozen=True)
class LineItem:
    """A line that multiplies: ``quantity * unit_price`` should be ``stated``."""

    label: str
    quantity: Decimal
    unit_price: Decimal
    stated: Decimal


@dataclass(frozen=True)
class Charge:
    """An addition to the subtotal; ``rate`` in percent, or None for a flat one."""

    label: str
    stated: Decimal
    rate: Decimal | None


@dataclass
class Document:
    """One text, read; built once by ``read_document`` and not changed after."""

    text: str
    labels: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    items: list[LineItem] = field(default_factory=list[LineItem])
    charges: list[Charge] = field(default_factory=list[Charge])
    subtotal: Decimal | None = None
    total: Decimal | None = None
    total_label: str = "Total"
    sentences: list[str] = field(default_factory=list[str])

    @property
    def currency(self) -> str | None:
        """The ISO code written most often, a symbol counting as its code."""
        found = re.findall(rf"(?<![A-Za-z]){CURRENCY}(?![A-Za-z])", self.text)
        codes = [SYMBOLS.get(each, each) for each in found]
        return max(codes, key=codes.count) if codes else None

    @property
    def letterhead(self) -> str | None:
        """The first line with letters, where a letter says who sends it."""
        lines = (line.strip(" #*=-\t") for line in self.text.splitlines())
        return next((line for line in lines if re.search("[A-Za-z]", line)), None)


def parse_number(text: str) -> Decimal:
    """
    Read a number written the English or the continental way.

    Args:
        text: What ``NUMBER`` matched: 1,234.50, 1.234,50, 1'234, 12,5 or 12.5.

    """
    plain = text.replace("−", "-").replace("'", "")
    comma, dot = plain.rfind(","), plain.rfind(".")
    if comma >= 0 and dot >= 0:
        thousands = "," if dot > comma else "."
        plain = plain.replace(thousands, "").replace(",", ".")
    elif re.fullmatch(r"-?\d{1,3}(,\d{3})+|-?\d{1,3}(\.\d{3}){2,}", plain):
        plain = plain.replace(",", "").replace(".", "")
    head, _, tail = plain.replace(",", ".").rpartition(".")
    return Decimal(f"{head.replace('.', '')}.{tail}" if head else tail)


def read_document(text: str) -> Document:
    """Read a text line by line into labels, items, sums and sentences."""
    document = Document(text)
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        # Wide gaps make the row patterns backtrack; two spaces part cells as well.
        stripped = _WIDE_GAP.sub("  ", line.strip())
        if not stripped:
            _close_paragraph(document, paragraph)
        elif not _read_row(document, stripped) and not stripped.startswith(">"):
            paragraph.append(stripped)
    return document


def _read_row(document: Document, line: str) -> bool:
    """Take a line as item, sum or label; False when it is prose."""
    if len(line) > ROW_CHARS_MAX:
        return False
    item = _read_item(line)
    if item is not None:
        if len(document.items) < ITEMS_MAX:
            document.items.append(item)
        return True
    sum_row = _SUM_ROW.match(line)
    if sum_row:
        _read_sum(document, sum_row)
        return True
    cells = [cell for cell in _CELLS.split(line.strip("| ")) if cell]
    labels = [match.groups() for cell in cells if (match := _LABEL.match(cell))]
    document.labels.extend((label.strip(), value.strip()) for label, value in labels)
    is_table = len(cells) > 2 or not re.search("[A-Za-z]", line)  # noqa: PLR2004
    return bool(labels) or is_table or bool(_GREETING.match(line))


def _read_item(line: str) -> LineItem | None:
    for form in _ITEM_FORMS:
        match = form.match(line)
        if match:
            price, amount = (parse_number(each) for each in match.groups()[-2:])
            quantity = parse_number(match["qty"])
            return LineItem(match["label"].strip(" :"), quantity, price, amount)
    cells = [cell for cell in _CELLS.split(line.strip("| ")) if cell]
    numbers = [match[1] for cell in cells if (match := _CELL.fullmatch(cell))]
    texts = [cell for cell in cells if not _CELL.fullmatch(cell)]
    if len(numbers) < 3 or not texts or _SUM_ROW.match(line):  # noqa: PLR2004
        return None
    quantity, price, amount = (parse_number(each) for each in numbers[-3:])
    return LineItem(max(texts, key=len), quantity, price, amount)


def _read_sum(document: Document, row: re.Match[str]) -> None:
    label, value = row["label"].strip(), parse_number(row.groups()[-1])
    kind = label.lower()
    if kind.startswith(("sub", "net")):
        document.subtotal = value
    elif "total" in kind or "due" in kind or "payable" in kind:
        document.total, document.total_label = value, label
    else:
        rate = _RATE.search(row["rest"])
        signed = -abs(value) if kind == "discount" else value
        percent = parse_number(rate[1]) if rate else None
        if percent is not None and kind == "discount":
            percent = -percent
        document.charges.append(Charge(label, signed, percent))


def _close_paragraph(document: Document, paragraph: list[str]) -> None:
    for sentence in _SENTENCE_END.split(" ".join(paragraph)):
        if len(sentence.split()) > 3:  # noqa: PLR2004
            document.sentences.append(sentence)
    paragraph.clear()
