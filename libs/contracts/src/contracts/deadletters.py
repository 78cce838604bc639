"""Messages that could not be processed, kept with the reason until replayed."""

from enum import StrEnum

from pydantic import Field

from contracts.ids import Token
from contracts.message import Count, Instant, Message


class DeadLetterState(StrEnum):
    """Whether someone has dealt with it."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class DeadLetter(Message):
    """One message that could not be processed."""

    id: Token
    """Its id."""
    service: str
    """Whose store it is in."""
    tenant: str | None = None
    """Whose message, when the subject tells."""
    subject: str
    """Where it came by."""
    message_id: str
    """Its message id."""
    reason: str
    """A problem code: ``invalid``, ``internal-error``."""
    detail: str
    """What was wrong, and what to do."""
    body: bytes
    """The message as it came, base64 in JSON."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Its headers."""
    deliveries: Count = 1
    """How often it was tried."""
    state: DeadLetterState = DeadLetterState.OPEN
    """Whether someone has dealt with it."""
    created_at: Instant
    """When it was given up."""
    replayed_at: Instant | None = None
    """When a replay succeeded."""


class ListDeadLetters(Message):
    """Ask a service for its dead letters, newest first."""

    tenant: str | None = None
    """Only this tenant's; None is for operators."""
    state: DeadLetterState | None = DeadLetterState.OPEN
    """Only these."""
    limit: int = Field(default=50, ge=1, le=200)
    """Page size."""
    cursor: str | None = None
    """Where the last page ended."""


class DeadLetterPage(Message):
    """A page of dead letters."""

    dead_letters: tuple[DeadLetter, ...]
    """The dead letters."""
    next_cursor: str | None = None
    """Ask again with this for more."""


class ReplayDeadLetter(Message):
    """Process a dead letter again, perhaps with a repaired body."""

    tenant: str | None = None
    """Only if it is this tenant's; None is for operators."""
    id: Token
    """Which."""
    body: bytes | None = None
    """Replaces the body that came, base64 in JSON."""


class DeadLetterNotice(Message):
    """A fact for operators; the dead letter itself is in the service's store."""

    id: Token
    """Ask the service for it."""
    service: str
    """Whose store it is in."""
    tenant: str | None = None
    """Whose message."""
    subject: str
    """Where it came by."""
    reason: str
    """A problem code."""
    at: Instant
    """When it was given up."""
