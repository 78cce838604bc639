"""
The compiled price book: usage → pico-USD, pure and in microseconds.

``compile_book`` turns a ``PriceBook`` message into a table; ``PriceTable.rate``
prices one usage record at the instant it happened. An unknown price is never
zero: it is rated at the ceiling and marked for suspense.
"""

from pricing.book import book_digest, make_book, read_book
from pricing.table import PriceTable, Rating, UnknownVariant, compile_book

__all__ = [
    "PriceTable",
    "Rating",
    "UnknownVariant",
    "book_digest",
    "compile_book",
    "make_book",
    "read_book",
]
