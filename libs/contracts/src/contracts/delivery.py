"""The question that makes delivery certain: what has the receiver not got."""

from pydantic import Field

from contracts.ids import MessageId
from contracts.message import Message


class Missing(Message):
    """Sender → receiver: ids of messages that were published."""

    message_ids: tuple[MessageId, ...] = Field(min_length=1, max_length=500)
    """At most 500."""


class MissingReply(Message):
    """Receiver → sender: send these again, forget the others."""

    missing: tuple[MessageId, ...]
    """Those that the receiver has not got."""


class Nothing(Message):
    """A question without arguments, or an answer without content."""
