"""
Server-sent events from bytes, as the WHATWG standard frames them.

Lines end at CR, LF or CRLF only. A decoder that splits text with ``splitlines``
would also cut at U+2028 and U+0085, which models do write inside JSON strings.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

EVENT_BYTES_MAX: Final = 16 * 1024 * 1024


class EventTooLarge(ValueError):
    """One event is larger than anything that a vendor sends."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event with data."""

    name: str
    data: bytes


@dataclass
class _Open:
    name: str = ""
    data: list[bytes] = field(default_factory=list[bytes])


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[ServerEvent]:
    """
    Yield the complete events; what the stream leaves unfinished is no event.

    Raises:
        EventTooLarge: An event passes the bound.
    """
    pending = bytearray()
    opened = _Open()
    async for chunk in chunks:
        pending += chunk
        for line in _complete_lines(pending):
            event = _feed(opened, line)
            if event is not None:
                yield event
        if len(pending) + sum(map(len, opened.data)) > EVENT_BYTES_MAX:
            message = f"a stream event is larger than {EVENT_BYTES_MAX} bytes"
            raise EventTooLarge(message)


def _complete_lines(pending: bytearray) -> list[bytes]:
    """Take the complete lines out of the buffer."""
    # A CR at the very end may be half of a CRLF: it waits for the next chunk.
    text = bytes(pending)
    end = len(text) - 1 if text.endswith(b"\r") else len(text)
    last = max(text.rfind(b"\n", 0, end), text.rfind(b"\r", 0, end))
    if last < 0:
        return []
    del pending[: last + 1]
    whole = text[: last + 1].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return whole.split(b"\n")[:-1]


def _feed(opened: _Open, line: bytes) -> ServerEvent | None:
    if not line:
        event = ServerEvent(opened.name, b"\n".join(opened.data))
        had_data = bool(opened.data)
        opened.name, opened.data = "", []
        return event if had_data else None
    key, _, value = line.partition(b":")
    value = value.removeprefix(b" ")
    if key == b"data":
        opened.data.append(value)
    elif key == b"event":
        opened.name = value.decode("utf-8", "replace")
    return None
