"""
Money in whole pico-USD; a float never touches it.

1 USD = 10^12 pico-USD, so $0.0375 per million tokens is 37,500 a token. An
int64 holds $9.2 million in one entry, far above any single vendor call.
"""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

PICO_PER_USD = 10**12
INT64_MAX = 2**63 - 1

PicoUsd = Annotated[int, Field(ge=-INT64_MAX, le=INT64_MAX, strict=True)]


def usd(pico_usd: int) -> str:
    """Return the exact amount in dollars: 1_234_500_000 → ``0.0012345``."""
    exact = (Decimal(pico_usd) / PICO_PER_USD).normalize()
    return f"{exact:f}"
