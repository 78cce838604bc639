"""Every deadline, interval and bound of the bus in one place."""

from dataclasses import dataclass

from contracts.frames import IDLE_LIMIT_S, PING_INTERVAL_S


@dataclass(frozen=True, slots=True)
class BusLimits:
    """Production's values are the defaults; tests shorten some."""

    publish_s: float = 5.0
    """A PubAck must come within this."""
    flush_s: float = 5.0
    """One round trip to the server, at subscribing and draining."""
    answer_s: float = 120.0
    """An ``Answer`` handler may take this long."""
    frames_s: float = 3600.0
    """An ``AnswerInFrames`` handler may take this long."""
    hear_s: float = 30.0
    """A ``Hear`` handler may take this long."""
    work_s: float = 900.0
    """A ``Work`` or ``Events`` handler may take this long."""
    drain_s: float = 20.0
    """What is in flight at shutdown may take this long to finish."""
    ping_interval_s: float = PING_INTERVAL_S
    """A ping goes out when an answer in frames was silent for this long."""
    idle_limit_s: float = IDLE_LIMIT_S
    """An answer in frames that is silent for this long was cut."""
    heartbeat_s: float = 10.0
    """``in_progress`` of long work: a third of the durable's ack wait."""
    pull_s: float = 1.0
    """One pull request waits this long for a message."""
    pull_pause_s: float = 0.5
    """Pause after a failed pull: the durable is gone, or the server is."""
    streams_poll_s: float = 2.0
    """How often new events streams are looked for."""
    nak_first_s: float = 0.5
    """The first redelivery after a fault, before jitter; doubles each time."""
    nak_cap_s: float = 30.0
    """The longest wait before a redelivery."""
    bug_deliveries_max: int = 8
    """A handler that raises a bug this often gets no more tries."""
    headers_bytes_max: int = 48 * 1024
    """Headers count towards max_payload, and nats-py does not check them."""
    headers_reserve_bytes: int = 64 * 1024
    """Bodies stay this far below the server's max_payload."""
    stored_bytes_max: int = 1024 * 1024
    """What a stream takes in one message, headers included; less than the server."""
    pending_messages_max: int = 4096
    """Buffered per subscription; above it the newest is dropped and counted."""
    pending_bytes_max: int = 64 * 1024 * 1024
    """Buffered per subscription."""
    frames_buffered_max: int = 4096
    """Frames that a slow reader of one completion may lag behind."""
    watch_buffered_max: int = 1024
    """Messages that a slow watcher may lag behind; then the oldest go."""
    reconnect_wait_s: float = 0.5
    """Pause between attempts to connect."""
