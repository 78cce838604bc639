"""The price books of a folder: the approved one is in force, all can be asked for."""

from pathlib import Path

import telemetry
from contracts.prices import PriceBook
from faults import PermanentFault
from pricing import PriceTable, compile_book
from pricing.approval import (
    APPROVALS,
    Approval,
    book_file,
    parse_approvals,
    parse_book,
)

log = telemetry.get_logger()


class FolderShelf:
    """
    Price books by digest.

    Args:
        seed: In force while none was approved.
        folder: Where approved ones are; None keeps the seed for ever.
    """

    def __init__(self, seed: PriceBook, folder: Path | None) -> None:
        self._folder = folder
        self._books = {seed.digest: seed}
        self._table = compile_book(seed)
        self._rejected = ""
        self.refresh()

    @property
    def book(self) -> PriceBook:
        """Return the book in force."""
        return self._books[self._table.digest]

    @property
    def table(self) -> PriceTable:
        """Return the same, compiled."""
        return self._table

    def find(self, digest: str) -> PriceBook | None:
        """Return the book of a digest; None where it was never approved."""
        known = self._books.get(digest)
        if known is not None or self._folder is None:
            return known
        if digest not in {each.digest for each in self._approvals(self._folder)}:
            return None
        return self._read(self._folder, digest)

    def refresh(self) -> None:
        """Take a newly approved book; one that cannot be read changes nothing."""
        if self._folder is None:
            return
        try:
            approvals = self._approvals(self._folder)
            if approvals and approvals[-1].digest != self._table.digest:
                book = self._read(self._folder, approvals[-1].digest)
                self._table = compile_book(book)
                log.info("prices_approved", version=book.version, digest=book.digest)
            self._rejected = ""
        except (OSError, PermanentFault) as cause:
            self._reject(str(cause))

    def _reject(self, detail: str) -> None:
        """Tell what is wrong, once until it changes; the book in force stays."""
        if detail != self._rejected:
            self._rejected = detail
            log.error("prices_rejected", detail=detail)

    def _approvals(self, folder: Path) -> tuple[Approval, ...]:
        path = folder.joinpath(APPROVALS)
        return parse_approvals(path.read_text("utf-8")) if path.exists() else ()

    def _read(self, folder: Path, digest: str) -> PriceBook:
        if (known := self._books.get(digest)) is None:
            text = folder.joinpath(book_file(digest)).read_bytes()
            known = self._books[digest] = parse_book(text, digest)
        return known
