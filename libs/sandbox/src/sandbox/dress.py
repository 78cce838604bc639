"""Forms that are unusual on the wire, and what a fault breaks in it: pure bytes."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, assert_never

from sandbox.faults import Dress
from sandbox.wire import Event

KEEP_ALIVE: Final = {
    "openai": b": keep-alive\n\n",
    "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n',
}
UNKNOWN_EVENT: Final = {
    "openai": b'event: note\ndata: {"id":"note","object":"sandbox.note",'
    b'"created":0,"model":"sandbox","choices":[]}\n\n',
    "anthropic": b'event: sandbox_note\ndata: {"type":"sandbox_note","n":1}\n\n',
}
_FIELD_NAME: Final = re.compile(rb"^(data|event): ", re.MULTILINE)
_NOTE: Final = b'{"sandbox_note":{"unknown":[1,null]},'
_PARTS: Final = 10


def dress(events: Iterator[Event], form: Dress, protocol: str) -> Iterator[Event]:
    """Write a stream in the fault's form; what it says stays the same."""
    for number, event in enumerate(events):
        match form:
            case Dress.PLAIN:
                yield event
            case Dress.CRLF:
                yield replace(event, data=event.data.replace(b"\n", b"\r\n"))
            case Dress.TIGHT:
                data = re.sub(
                    rb"^(data|event): ", rb"\1:", event.data, flags=re.MULTILINE
                )
                yield replace(event, data=data)
            case Dress.PINGS:
                yield event
                yield replace(event, data=KEEP_ALIVE[protocol])
            case Dress.UNKNOWN:
                yield replace(event, data=event.data.replace(b"{", _NOTE, 1))
                if not number:
                    yield replace(event, data=UNKNOWN_EVENT[protocol])
            case _:
                assert_never(form)


def dress_whole(body: bytes, form: Dress) -> bytes:
    """Write a whole answer in the fault's form, as far as it has one."""
    match form:
        case Dress.PINGS:
            return b"\n" * 3 + body
        case Dress.UNKNOWN:
            return body.replace(b"{", _NOTE, 1)
        case Dress.PLAIN | Dress.CRLF | Dress.TIGHT:
            return body
        case _:
            assert_never(form)


def spoil(data: bytes) -> bytes:
    """Break an event's JSON in the middle."""
    text = data.rstrip(b"\r\n")
    return text[: len(text) * 2 // 3] + b"\n\n"


def slices(data: bytes) -> list[bytes]:
    """Cut into ten parts of one size."""
    size = -(-len(data) // _PARTS) or 1
    return [data[at : at + size] for at in range(0, len(data), size)]


def split_badly(data: bytes) -> list[bytes]:
    """Cut inside every character of several bytes and between line ends."""
    parts = re.findall(rb"[^\n\xc0-\xff]*[\n\xc0-\xff]|[^\n\xc0-\xff]+", data)
    return parts if len(parts) > 1 else slices(data)
