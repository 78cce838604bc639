"""
Server-sent events from bytes, as the WHATWG standard frames them.

Lines end at CR, LF or CRLF only. A decoder that splits text with ``splitlines``
would also cut at U+2028 and U+0085, which models do write inside JSON strings.
"""

from typing import Final

EVENT_BYTES_MAX: Final = 16 * 1024 * 1024


class EventTooLarge(ValueError):
    """One event is larger than anything that a vendor sends."""


class EventReader:
    """Takes bytes as they come, cut anywhere, and gives the data of whole events."""

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._data: list[bytes] = []
        self._held = 0
        """Bytes of the event that is not complete."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """
        Return the data of the events that are complete by now.

        Raises:
            EventTooLarge: The event that is not complete passes the bound.
        """
        self._pending.append(chunk)
        events: list[bytes] = []
        # A CR at the end may be half of a CRLF, so whatever follows one decides.
        if b"\n" in chunk or b"\r" in chunk or self._pending[0].endswith(b"\r"):
            self._lines(b"".join(self._pending), events)
        else:
            self._held += len(chunk)
        if self._held > EVENT_BYTES_MAX:
            message = f"a stream event is larger than {EVENT_BYTES_MAX} bytes"
            raise EventTooLarge(message)
        return events

    def _lines(self, text: bytes, events: list[bytes]) -> None:
        end = len(text) - 1 if text.endswith(b"\r") else len(text)
        last = max(text.rfind(b"\n", 0, end), text.rfind(b"\r", 0, end))
        whole, rest = text[: last + 1], text[last + 1 :]
        if b"\r" in whole:
            whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        for line in whole.split(b"\n")[:-1]:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        self._pending = [rest] if rest else []
        self._held = sum(map(len, self._data)) + len(rest)
