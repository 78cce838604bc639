"""
Foreign messages become events: CloudEvents 1.0, or plain JSON that is wrapped.

    structured   content-type ``application/cloudevents+json``, or a JSON object
                 with ``specversion``
    binary       any of the headers ``ce-id``, ``ce-source``, ``ce-type``,
                 ``ce-specversion``; header names in any case, values
                 percent-decoded as the HTTP binding has it
    plain        anything else: the subject gives source and type, the stream's
                 creation and sequence the id

What cannot be read is a ``PermanentFault`` that says why: the message becomes a
dead letter with this reason, and can be replayed with a repaired body. Nothing else
is ever raised, whatever the bytes.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, cast
from urllib.parse import unquote

import orjson
from pydantic import ValidationError

from contracts.events import Event
from contracts.ids import derived_id
from contracts.message import Json, JsonObject
from faults import PermanentFault

BODY_BYTES_MAX: Final = 1_048_576
DEPTH_MAX: Final = 64
EXTENSIONS_MAX: Final = 64
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1
INT_CHARS_MAX: Final = 20

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
JSON: Final = "application/json"
_LONG_NUMBER: Final = re.compile(r"\d{19}")
_DECLARING: Final = ("specversion", "id", "source", "type")
_KNOWN: Final = frozenset(
    {*_DECLARING, "subject", "time", "datacontenttype", "data", "data_base64"}
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message of a tenant's events stream, as it came."""

    tenant: str
    """From the stream."""
    subject: str
    """``events.<tenant>.<type…>``."""
    headers: Mapping[str, str]
    body: bytes
    stream_created: datetime
    sequence: int


@dataclass(frozen=True, slots=True)
class _Attributes:
    """Context attributes before they are checked."""

    known: Mapping[str, str]
    data: Json
    extensions: Mapping[str, str] = field(default_factory=dict[str, str])


def parse(foreign: Foreign) -> Event:
    """
    Return the event that a message carries.

    Raises:
        PermanentFault: It cannot be read; the detail says why.
    """
    kind = _kind(foreign)
    if len(foreign.body) > BODY_BYTES_MAX:
        detail = f"the body has {len(foreign.body)} bytes, at most {BODY_BYTES_MAX}"
        raise PermanentFault(f"{detail} are taken: send a reference", code="too-large")
    headers = _lower_case(foreign.headers)
    attributes = _attributes(headers, foreign.body)
    known = attributes.known
    try:
        return Event(
            tenant=foreign.tenant,
            subject=foreign.subject,
            id=known.get("id") or _place(foreign),
            source=known.get("source") or foreign.subject,
            type=known.get("type") or kind,
            time=_time(known.get("time")),
            data_content_type=known.get("datacontenttype") or JSON,
            data=attributes.data,
            extensions=dict(attributes.extensions),
        )
    except ValidationError as cause:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
            for error in cause.errors(include_url=False, include_input=False)[:8]
        )
        raise PermanentFault(f"not a CloudEvent: {wrong}") from cause


def message_id(event: Event) -> str:
    """Return the inbox's key: the same event of the same source, the same key."""
    return derived_id("event", event.tenant, event.source, event.id)


def _kind(foreign: Foreign) -> str:
    """Return the subject's end, having checked whose the subject is."""
    tokens = foreign.subject.split(".")
    is_own = tokens[:2] == ["events", foreign.tenant]
    if not is_own or len(tokens) < 3 or not all(tokens):  # noqa: PLR2004 -- a type
        raise PermanentFault(
            f"subject {foreign.subject!r} is not one of tenant {foreign.tenant!r}: "
            f"publish to events.{foreign.tenant}.<type>"
        )
    return ".".join(tokens[2:])


def _place(foreign: Foreign) -> str:
    return f"{foreign.stream_created.isoformat()}-{foreign.sequence}"


def _lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    lowered: dict[str, str] = {}
    for name, value in headers.items():
        if lowered.setdefault(name.lower(), value) != value:
            raise PermanentFault(f"header {name!r} is given twice with other values")
    return lowered


def _attributes(headers: Mapping[str, str], body: bytes) -> _Attributes:
    media_type = _media_type(headers.get("content-type"))
    if media_type == BATCH:
        raise PermanentFault("CloudEvents batch mode is not taken: send one by one")
    if media_type == STRUCTURED:
        return _structured(_json(body, "the structured CloudEvent"))
    if any(f"ce-{name}" in headers for name in _DECLARING):
        return _binary(headers, body)
    data = _data(body, media_type, "the body")
    if isinstance(data, dict) and "specversion" in data:
        return _structured(data)
    if _is_batch(data):
        raise PermanentFault("a batch of CloudEvents is not taken: send one by one")
    return _Attributes({"datacontenttype": media_type}, data)


def _is_batch(data: Json) -> bool:
    if not isinstance(data, list) or not data:
        return False
    return all(isinstance(item, dict) and "specversion" in item for item in data)


def _binary(headers: Mapping[str, str], body: bytes) -> _Attributes:
    given = {
        name.removeprefix("ce-"): _percent_decoded(name, value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    given.setdefault("specversion", "1.0")
    content_type = given.get("datacontenttype") or headers.get("content-type", "")
    given["datacontenttype"] = content_type
    data = _data(body, _media_type(content_type), "the CloudEvent's data")
    return _checked(given, data)


def _structured(document: Json) -> _Attributes:
    if not isinstance(document, dict):
        raise PermanentFault("a structured CloudEvent is a JSON object: send one")
    if "data" in document and "data_base64" in document:
        raise PermanentFault("give data or data_base64, not both")
    given = {
        name: _text(name, value)
        for name, value in document.items()
        if name not in {"data", "data_base64"} and value is not None
    }
    return _checked(given, _structured_data(document, given))


def _structured_data(document: JsonObject, given: Mapping[str, str]) -> Json:
    if "data_base64" not in document:
        return document.get("data")
    encoded = document["data_base64"]
    try:
        body = base64.b64decode(str(encoded), validate=True)
    except (binascii.Error, ValueError) as cause:
        raise PermanentFault("data_base64 is not base64") from cause
    return _data(body, _media_type(given.get("datacontenttype")), "data_base64")


def _checked(given: Mapping[str, str], data: Json) -> _Attributes:
    version = given.get("specversion", "")
    if version != "1.0":
        raise PermanentFault(f"specversion {version[:16]!r} is not taken: send 1.0")
    if not given.get("id"):
        raise PermanentFault("a CloudEvent needs an id (ce-id): it is deduped by it")
    for name in ("id", "source", "type"):
        if not given.get(name, "-").isprintable():
            raise PermanentFault(f"{name} has characters that cannot be printed")
    extensions = {name: value for name, value in given.items() if name not in _KNOWN}
    if "subject" in given:  # CloudEvents' own subject is not the NATS subject
        extensions["subject"] = given["subject"]
    if len(extensions) > EXTENSIONS_MAX:
        raise PermanentFault(f"more than {EXTENSIONS_MAX} extension attributes")
    return _Attributes(given, data, extensions)


def _text(name: str, value: Json) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case _:
            detail = f"attribute {name[:64]!r} must be a string, number or boolean"
            raise PermanentFault(detail)


def _percent_decoded(name: str, value: str) -> str:
    try:
        return unquote(value.strip(), errors="strict").strip('"')
    except UnicodeError as cause:
        raise PermanentFault(f"header {name!r} is not percent-encoded UTF-8") from cause


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower() or JSON


def _data(body: bytes, media_type: str, what: str) -> Json:
    """Return JSON as it is, text as a string, other media as base64."""
    if not body:
        return None
    if media_type == JSON or media_type.endswith(("+json", "/json")):
        return _json(body, what)
    if media_type.startswith("text/") or media_type.endswith(("xml", "yaml")):
        return _utf8(body, what)
    return base64.b64encode(body).decode()


def _utf8(body: bytes, what: str) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as cause:
        detail = f"{what} is not UTF-8: byte {cause.start} cannot be read"
        raise PermanentFault(detail) from cause


def _json(body: bytes, what: str) -> Json:
    text = _utf8(body, what)
    try:
        value = cast("Json", orjson.loads(text))
    except orjson.JSONDecodeError as cause:
        raise PermanentFault(f"{what} is not JSON: {cause.msg}") from cause
    _require_shallow(value, what)
    if _LONG_NUMBER.search(text):  # orjson makes a float of what is above 64 bits
        json.loads(text, parse_int=_within_64_bits)
    return value


def _within_64_bits(digits: str) -> int:
    if len(digits) > INT_CHARS_MAX or not INT_MIN <= int(digits) <= INT_MAX:
        detail = f"the number {digits[:24]} is above 64 bits: send it as a string"
        raise PermanentFault(detail)
    return int(digits)


def _require_shallow(value: Json, what: str) -> None:
    level: list[Json] = [value]
    for _ in range(DEPTH_MAX):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise PermanentFault(f"{what} is nested deeper than {DEPTH_MAX} levels")


def _children(node: Json) -> list[Json]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as cause:
        detail = f"time {text[:40]!r} is not RFC 3339, as 2026-01-31T12:00:00Z"
        raise PermanentFault(detail) from cause
    if time.tzinfo is None:
        raise PermanentFault(f"time {text[:40]!r} has no time zone: add Z")
    return time
