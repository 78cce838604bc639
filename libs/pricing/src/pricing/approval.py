"""
Price books that were approved: which holds, what it changes, who approved it and when.

A folder keeps them: ``<digest>.json`` is a book, approved or only proposed, and
``approvals.jsonl`` grows by a line with each approval. The last line's book is in
force; the others stay, so that what a ledger line was priced by can be shown for ever.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from pydantic import Field, ValidationError

from contracts.message import Document, Instant
from contracts.prices import Price, PriceBook
from faults import PermanentFault
from pricing.book import make_book
from pricing.table import compile_book

APPROVALS: Final = "approvals.jsonl"
DIGEST: Final = r"^[0-9a-f]{64}$"

Key = tuple[str, str, str | None, bool, str | None, str]
"""What a row is known by: vendor, model, service tier, batch, tenant, beginning."""


class Approval(Document):
    """Somebody let a book take force."""

    digest: str = Field(pattern=DIGEST)
    """The book."""
    version: str
    """Its name for people."""
    approved_by: str = Field(min_length=1, max_length=200)
    """Who."""
    approved_at: Instant
    """When."""
    replaces: str | None = Field(default=None, pattern=DIGEST)
    """The book that was in force before; none the first time."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row that a book adds, takes away or prices differently."""

    key: Key
    before: Price | None
    after: Price | None


def book_file(digest: str) -> str:
    """Return the name of a book's file."""
    return f"{digest}.json"


def parse_book(text: str | bytes, digest: str) -> PriceBook:
    """
    Read a book's file.

    Raises:
        PermanentFault: It is no price book, or not the one of this digest.
    """
    try:
        book = PriceBook.model_validate_json(text)
    except ValidationError as cause:
        message = f"{book_file(digest)} is no price book: {cause}"
        raise PermanentFault(message) from cause
    made = make_book(book.version, book.prices, book.ceiling, book.names)
    if not made.digest == book.digest == digest:
        message = (
            f"{book_file(digest)} was changed: its content has digest {made.digest}"
        )
        raise PermanentFault(message)
    compile_book(book)
    return book


def parse_approvals(text: str) -> tuple[Approval, ...]:
    """
    Read the approvals, oldest first.

    Raises:
        PermanentFault: A line is no approval.
    """
    try:
        return tuple(map(Approval.model_validate_json, text.splitlines()))
    except ValidationError as cause:
        raise PermanentFault(f"{APPROVALS} has a line that is none: {cause}") from cause


def changes(before: PriceBook, after: PriceBook) -> Iterator[Change]:
    """Yield what a book changes, by the rows' keys."""
    old = {key_of(each): each for each in before.prices}
    new = {key_of(each): each for each in after.prices}
    for key in sorted({*old, *new}, key=str):
        if old.get(key) != new.get(key):
            yield Change(key, old.get(key), new.get(key))


def with_rows(book: PriceBook, rows: tuple[Price, ...], version: str) -> PriceBook:
    """Return the book with these rows, each in the place of whatever has its key."""
    kept = {key_of(each): each for each in book.prices}
    kept.update({key_of(each): each for each in rows})
    return make_book(version, tuple(kept.values()), book.ceiling, book.names)


def key_of(price: Price) -> Key:
    """Return what a row is known by."""
    return (
        price.vendor,
        price.model,
        price.service_tier,
        price.batch,
        price.tenant,
        price.effective_from.astimezone(UTC).isoformat(),
    )
