import base64
import json
from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.message import Json
from faults import PermanentFault
from orchestrator.domain.events import BODY_BYTES_MAX, Foreign, message_id, parse

CREATED: Final = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECT: Final = "events.acme.invoice.received"


def foreign(
    body: bytes = b"{}",
    headers: dict[str, str] | None = None,
    subject: str = SUBJECT,
    sequence: int = 7,
) -> Foreign:
    """Build a message of acme's events stream."""
    return Foreign("acme", subject, headers or {}, body, CREATED, sequence)


def test_binary_mode_reads_headers_in_any_case() -> None:
    """Publishers write header names as their library does."""
    event = parse(
        foreign(
            b'{"total": 3}',
            {
                "Ce-Id": "e-1",
                "CE-SOURCE": "/erp",
                "ce-type": "com.acme.invoice",
                "ce-specversion": "1.0",
                "ce-time": "2026-03-01T12:00:00Z",
                "ce-subject": "invoice%20%E2%82%AC",
                "ce-region": "north",
                "Content-Type": "application/json; charset=utf-8",
                "traceparent": "00-1-2-01",
            },
        )
    )
    assert (event.id, event.source, event.type) == ("e-1", "/erp", "com.acme.invoice")
    assert event.data == {"total": 3}
    assert event.time == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert event.extensions == {"region": "north", "subject": "invoice €"}


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "application/cloudevents+json; charset=utf-8"}]
)
def test_structured_mode_is_told_by_type_or_by_specversion(
    headers: dict[str, str],
) -> None:
    """A JSON object with specversion is a CloudEvent even without a header."""
    body = b'{"specversion":"1.0","id":"e-1","source":"/erp","type":"t","data":[1]}'
    event = parse(foreign(body, headers))
    assert (event.id, event.source, event.type, event.data) == ("e-1", "/erp", "t", [1])


def test_structured_base64_data_is_read_by_its_type() -> None:
    """JSON and text come out as such, other media stay base64."""

    def data(media_type: str, raw: bytes) -> Json:
        encoded = base64.b64encode(raw).decode()
        body = (
            f'{{"specversion":"1.0","id":"1","source":"s","type":"t",'
            f'"datacontenttype":"{media_type}","data_base64":"{encoded}"}}'
        )
        return parse(foreign(body.encode())).data

    assert data("application/json", b'{"a":1}') == {"a": 1}
    assert data("text/plain", b"words") == "words"
    assert (
        data("application/pdf", b"\xff\x00") == base64.b64encode(b"\xff\x00").decode()
    )


def test_plain_json_is_wrapped() -> None:
    """The subject gives source and type, the stream's place the id."""
    event = parse(foreign(b'{"total": 3}'))
    assert (event.source, event.type) == (SUBJECT, "invoice.received")
    assert event.id == "2026-01-01T00:00:00+00:00-7"
    assert event.data == {"total": 3}
    longest = {"a": 2**64 - 1, "b": -(2**63), "c": "9" * 30, "d": 0.5}
    assert parse(foreign(json.dumps(longest).encode())).data == longest
    assert message_id(event) != message_id(parse(foreign(b"{}", sequence=8)))


def test_the_same_event_has_the_same_key_however_it_comes() -> None:
    """A second delivery, in another mode or place, is the same event."""
    headers = {"ce-id": "1", "ce-source": "s", "ce-type": "t"}
    body = b'{"specversion":"1.0","id":"1","source":"s","type":"t"}'
    binary = parse(foreign(b"", headers, sequence=1))
    structured = parse(foreign(body, sequence=9))
    assert message_id(binary) == message_id(structured)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (foreign(b"\xff{}"), "UTF-8"),
        (foreign(b"{"), "not JSON"),
        (foreign(b'{"a": NaN}'), "not JSON"),
        (foreign(b'{"a": [18446744073709551616]}'), "64 bits"),
        (foreign(b'{"a": -' + b"9" * 300 + b"}"), "64 bits"),
        (foreign(b'{"a": "\\ud800"}'), "not JSON"),
        (foreign(b"{}", {"ce-type": "t"}), "ce-id"),
        (foreign(b'{"specversion":"1.0","type":"t"}'), "ce-id"),
        (foreign(b'{"specversion":"0.3","id":"1"}'), "specversion"),
        (foreign(b'{"specversion":"1.0","id":{}}'), "'id'"),
        (foreign(b"[]", {"content-type": "application/cloudevents-batch+json"}), "bat"),
        (foreign(b'[{"specversion":"1.0"}]'), "batch"),
        (foreign(b"[1]", {"content-type": "application/cloudevents+json"}), "object"),
        (foreign(b"[" * 65 + b"]" * 65), "deeper"),
        (foreign(b"[" * 5000 + b"]" * 5000), "not JSON"),
        (foreign(b'"' + b"a" * BODY_BYTES_MAX + b'"'), "bytes"),
        (foreign(b"{}", {"ce-id": "1", "ce-time": "yesterday"}), "RFC 3339"),
        (foreign(b"{}", {"ce-id": "1", "ce-time": "2026-01-01T00:00:00"}), "zone"),
        (foreign(b"{}", {"ce-id": "a%ff"}), "percent"),
        (foreign(b"{}", {"ce-id": "a%1fb"}), "printed"),
        (foreign(b"{}", {"ce-id": "x" * 257}), "id:"),
        (foreign(b"{}", {"ce-id": "1", "Ce-Id": "2"}), "twice"),
        (foreign(b'{"specversion":"1.0","id":"1","data_base64":"%"}'), "base64"),
        (foreign(subject="events.globex.invoice"), "events.acme"),
        (foreign(subject="events.acme"), "events.acme"),
        (foreign(subject="events.acme..x"), "events.acme"),
    ],
)
def test_what_cannot_be_read_says_why(message: Foreign, reason: str) -> None:
    """A dead letter tells its publisher what to repair."""
    with pytest.raises(PermanentFault, match=reason):
        parse(message)


NAMES = st.sampled_from(
    ["ce-id", "CE-Type", "ce-source", "ce-time", "ce-specversion", "content-type"]
)
VALUES = st.text(max_size=12) | st.sampled_from(
    ["1.0", "application/cloudevents+json", "text/plain", "image/png", "%ff"]
)
BODIES = st.binary(max_size=40) | st.sampled_from(
    [
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","time":1}',
        b'{"specversion":"1.0","id":"1","time":"0001-01-01T00:00:00+23:59"}',
        b'{"specversion":"1.0","id":1e400}',
    ]
)


@given(
    BODIES,
    st.dictionaries(NAMES | st.text(max_size=8), VALUES, max_size=6),
    st.text(max_size=12).map("events.acme.".__add__) | st.text(max_size=20),
)
def test_no_message_breaks_the_parser(
    body: bytes, headers: dict[str, str], subject: str
) -> None:
    """Whatever a tenant publishes, it is an event or a fault that says why."""
    try:
        event = parse(foreign(body, headers, subject))
    except PermanentFault:
        return
    assert message_id(event).startswith("event_")
    assert event.encode()
