"""What ai-broker says it sent, so that the ledger can prove that it came."""

from pydantic import Field

from contracts.ids import Token
from contracts.message import Count, Instant, Message
from contracts.usage import TokenUsage


class BrokerManifest(Message):
    """
    What ai-broker says it sent in one minute, so that the ledger can compare sets.

    Equal counts and sums could hide a swap; the sum of hashes cannot, short of
    forgery.
    """

    store_id: Token
    """The broker's store: one manifest for each store and minute."""
    minute: Instant
    """Start of the minute, by ``occurred_at``."""
    records: Count
    """How many (attempt id, revision) pairs."""
    usage: TokenUsage
    """Token sums over them."""
    digest_sum: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Sum of SHA-256 of each record's JSON, modulo 2^256, in hex."""
