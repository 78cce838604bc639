"""Makes streams, durables and buckets as the topology wants them; idempotent."""

from dataclasses import fields
from typing import Any, Final, cast

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from faults import TransientFault
from nats_bootstrap.topology import (
    ACK_PENDING_MAX,
    ACK_WAIT_S,
    DEDUPE_WINDOW_S,
    ROUTES_BUCKET,
    ROUTES_BYTES_MAX,
    STORED_BYTES_MAX,
    Durable,
    Stream,
)

ROUTES_HISTORY: Final = 5
ROUTES_STREAM: Final = f"KV_{ROUTES_BUCKET}"


async def ensure_stream(jetstream: JetStreamContext, wanted: Stream) -> str | None:
    """Make or alter one stream; return what was done, in words."""
    return await _ensure_stream(jetstream, stream_config(wanted))


async def ensure_durable(jetstream: JetStreamContext, wanted: Durable) -> str | None:
    """Make or alter one durable; return what was done, in words."""
    config = durable_config(wanted)
    name = f"durable {wanted.stream}/{wanted.name}"
    try:
        found = await jetstream.consumer_info(wanted.stream, wanted.name)
    except NotFoundError:
        found = None
    except nats.errors.Error as cause:
        raise TransientFault(f"look up {name}: {cause!r}") from cause
    if found is not None and not _differences(config, found.config):
        return None
    try:
        await jetstream.add_consumer(wanted.stream, config)  # pyright: ignore[reportUnknownMemberType]
    except nats.errors.Error as cause:
        raise TransientFault(f"make {name}: {cause!r}") from cause
    return f"made {name}" if found is None else f"altered {name}"


async def ensure_bucket(jetstream: JetStreamContext) -> str | None:
    """Make the bucket of the router's weights; return what was done, in words."""
    return await _ensure_stream(
        jetstream,
        StreamConfig(
            name=ROUTES_STREAM,
            subjects=[f"$KV.{ROUTES_BUCKET}.>"],
            allow_direct=True,
            allow_rollup_hdrs=True,
            deny_delete=True,
            discard=DiscardPolicy.NEW,
            max_msgs_per_subject=ROUTES_HISTORY,
            max_bytes=ROUTES_BYTES_MAX,
            storage=StorageType.FILE,
        ),
    )


def stream_config(wanted: Stream) -> StreamConfig:
    """Return a stream in the client's words."""
    return StreamConfig(
        name=wanted.name,
        subjects=list(wanted.subjects),
        retention=(
            RetentionPolicy.WORK_QUEUE
            if wanted.is_work_queue
            else RetentionPolicy.LIMITS
        ),
        discard=(
            DiscardPolicy.NEW if wanted.is_refusing_when_full else DiscardPolicy.OLD
        ),
        storage=StorageType.FILE,
        max_bytes=wanted.bytes_max,
        max_msgs=wanted.messages_max,
        max_msg_size=STORED_BYTES_MAX,
        max_age=wanted.age_max_s,
        duplicate_window=DEDUPE_WINDOW_S,
        # A publisher must neither erase what others sent nor send later or for a
        # while only.
        allow_rollup_hdrs=False,
        allow_msg_ttl=False,
        allow_msg_schedules=False,
    )


def durable_config(wanted: Durable) -> ConsumerConfig:
    """Return a durable in the client's words."""
    return ConsumerConfig(
        durable_name=wanted.name,
        filter_subject=wanted.filter_subject,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_deliver=-1,
        max_ack_pending=ACK_PENDING_MAX,
    )


async def _ensure_stream(
    jetstream: JetStreamContext, config: StreamConfig
) -> str | None:
    try:
        found = await jetstream.stream_info(config.name or "")
    except NotFoundError:
        found = None
    except nats.errors.Error as cause:
        raise TransientFault(f"look up stream {config.name}: {cause!r}") from cause
    try:
        if found is None:
            await jetstream.add_stream(config)  # pyright: ignore[reportUnknownMemberType]
            return f"made stream {config.name}"
        differences = _differences(config, found.config)
        if not differences:
            return None
        # Streams are never updated as a routine: delayed naks can be lost by it.
        await jetstream.update_stream(config)  # pyright: ignore[reportUnknownMemberType]
    except nats.errors.Error as cause:
        raise TransientFault(f"make stream {config.name}: {cause!r}") from cause
    return f"altered stream {config.name}: {', '.join(differences)}"


# Any: the client's two config types share no base.
def _differences(wanted: Any, found: Any) -> list[str]:
    """Return the names of fields that we set and the server has otherwise."""
    return [
        each.name
        for each in fields(wanted)
        if _normal(getattr(wanted, each.name)) is not None
        and _normal(getattr(wanted, each.name)) != _normal(getattr(found, each.name))
    ]


def _normal(value: object) -> object:
    """Read what the server leaves out as unset, and lists without their order."""
    if value in (None, False, 0, 0.0, "", -1):
        return None
    if isinstance(value, list):
        return sorted(str(item) for item in cast("list[object]", value))
    return value
