"""Header names on NATS messages; W3C ``traceparent`` and ``baggage`` ride beside."""

from typing import Final

MESSAGE_ID: Final = "De-Message-Id"
"""The inbox's key; stays the same when a message is sent again."""
DEDUPE_ID: Final = "Nats-Msg-Id"
"""``<message id>.<send number>``: JetStream would drop a plain repeat."""
ERROR: Final = "De-Error"
"""Set on a reply whose body is an ErrorEnvelope; the value is its code."""
TASK_KEY: Final = "De-Task"
"""The task id that the track is drawn by."""
