"""Rate limits as a caller sees them; IETF's ``RateLimit`` fields are made of these."""

from enum import StrEnum

from pydantic import Field

from contracts.message import Message


class Measure(StrEnum):
    """What is limited."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"


class RateStanding(Message):
    """One limit that a call was held to, and what is left of it."""

    policy: str = Field(pattern=r"^[a-z-]{1,64}$")
    """Whose and of what: ``api-key-requests``."""
    measure: Measure
    """Requests or tokens per minute, or calls at once."""
    limit: int = Field(ge=1)
    """How much there is of it."""
    left: int = Field(ge=0)
    """How much of it is left, after this call if it was let in."""
    resets_in_s: float | None = Field(default=None, ge=0)
    """
    Seconds until all of it is there again; where the call was refused, until it fits,
    and None of the limits that it fits in. None of calls at once that were let in.
    """
