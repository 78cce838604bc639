"""
Spans as JSON lines in a file: the trace backend of a development machine.

One line per span; several processes may share a file, because each batch is one
appending write. Past ``SIZE_MAX_BYTES`` the file becomes ``<name>.1`` and a new
one begins, so at most two are kept.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from telemetry.names import SERVICE_INSTANCE, SERVICE_NAME

SIZE_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SpanLink:
    """Another span that this one follows from."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One span as the file keeps it; ids in hex, times in ns since 1970."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    service: str
    instance: str
    start_ns: int
    end_ns: int
    status: str
    """``unset``, ``ok`` or ``error``."""
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    links: tuple[SpanLink, ...] = ()


class FileSpanExporter(SpanExporter):
    """Appends finished spans to a file."""

    def __init__(self, path: Path, size_max_bytes: int = SIZE_MAX_BYTES) -> None:
        self._path = path
        self._size_max_bytes = size_max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch in one append; FAILURE when the disk refuses it."""
        lines = b"".join(
            orjson.dumps(_record(span), option=orjson.OPT_APPEND_NEWLINE)
            for span in spans
        )
        try:
            self._make_room()
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(file, lines)
            finally:
                os.close(file)
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _make_room(self) -> None:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size > self._size_max_bytes:
            self._path.replace(self._path.with_name(self._path.name + ".1"))


def read_spans(path: Path, trace_id: str | None = None) -> Iterator[SpanRecord]:
    """
    Yield the spans of a file and of the one before it, oldest file first.

    A line that is being written just now, or was torn by a crash, is left out.

    Args:
        path: As given to ``configure``.
        trace_id: Only this trace, 32 hex digits.
    """
    for file in (path.with_name(path.name + ".1"), path):
        if not file.exists():
            continue
        with file.open("rb") as lines:
            for line in lines:
                if trace_id is not None and trace_id.encode() not in line:
                    continue
                record = _parse(line)
                if record is not None and trace_id in {None, record.trace_id}:
                    yield record


def _parse(line: bytes) -> SpanRecord | None:
    try:
        fields = orjson.loads(line)
        links = tuple(SpanLink(**link) for link in fields.pop("links"))
        return SpanRecord(links=links, **fields)
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return None


def _record(span: ReadableSpan) -> SpanRecord:
    own = span.get_span_context()
    resource = span.resource.attributes
    return SpanRecord(
        trace_id="" if own is None else f"{own.trace_id:032x}",
        span_id="" if own is None else f"{own.span_id:016x}",
        parent_id=None if span.parent is None else f"{span.parent.span_id:016x}",
        name=span.name,
        kind=span.kind.name.lower(),
        service=str(resource.get(SERVICE_NAME, "")),
        instance=str(resource.get(SERVICE_INSTANCE, "")),
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        status=span.status.status_code.name.lower(),
        attributes={
            key: list(value) if isinstance(value, tuple) else value
            for key, value in (span.attributes or {}).items()
        },
        links=tuple(
            SpanLink(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}")
            for link in span.links
        ),
    )
