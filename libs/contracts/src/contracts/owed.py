"""A message that a decision owes: what outbox rows are made of."""

from dataclasses import dataclass

from contracts.message import Message
from contracts.subjects import Address


@dataclass(frozen=True, slots=True)
class Owed:
    """One durable message that must reach its receiver."""

    address: Address
    """Where to, without a track."""
    message: Message
    """What to say."""
    message_id: str
    """The receiver's inbox key; derive it from the business, never draw it."""
    task_id: str | None = None
    """The task that the track is drawn by."""
