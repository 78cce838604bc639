"""Spans join over hops, and survive the file."""

import asyncio
from pathlib import Path

import pytest

import telemetry
from faults import TransientFault
from telemetry import SpanKind, Telemetry, names
from telemetry.span_file import FileSpanExporter, read_spans


def test_a_trace_goes_over_two_hops(running: Telemetry, trace_file: Path) -> None:
    """One trace covers sender, relay and receiver, each the parent of the next."""
    with telemetry.span("POST /v1/tasks", {names.DE_TENANT: "acme"}) as _:
        first = telemetry.carrier()
        trace = telemetry.trace_id()
    with telemetry.consumer_span("work.orchestrator.submit", first):
        assert telemetry.trace_id() == trace
        with telemetry.span("owed", kind=SpanKind.PRODUCER):
            second = telemetry.carrier()
    shouting = {key.title(): text for key, text in second.items()}
    with telemetry.consumer_span("work.agent-runtime.step", shouting):
        assert telemetry.trace_id() == trace
    running.flush()

    spans = {record.name: record for record in read_spans(trace_file, trace)}
    assert len(spans) == 4
    submit = spans["work.orchestrator.submit"]
    assert submit.parent_id == spans["POST /v1/tasks"].span_id
    assert [link.span_id for link in submit.links] == [submit.parent_id]
    assert spans["work.agent-runtime.step"].parent_id == spans["owed"].span_id
    assert spans["POST /v1/tasks"].attributes == {names.DE_TENANT: "acme"}
    assert {record.service for record in spans.values()} == {"ai-broker"}
    assert all(record.end_ns >= record.start_ns > 0 for record in spans.values())


def test_a_message_is_handled_in_its_own_trace(running: Telemetry) -> None:
    """The handler's surroundings are not its parent, and return unchanged."""
    with telemetry.span("sender"):
        headers = telemetry.carrier()
        theirs = telemetry.trace_id()
    with telemetry.span("loop"):
        ours = telemetry.trace_id()
        with telemetry.consumer_span("work.billing-meter.usage", headers):
            assert telemetry.trace_id() == theirs
        with telemetry.consumer_span("work.billing-meter.usage", {}):
            assert telemetry.trace_id() not in {ours, theirs, None}
        assert telemetry.trace_id() == ours
    assert running.registry is not None


def test_errors_mark_the_span_without_their_text(
    running: Telemetry, trace_file: Path
) -> None:
    """A span says which fault, never what the fault's text quotes."""
    with pytest.raises(TransientFault), telemetry.span("failing"):
        raise TransientFault("the secret plan", code="stream-cut")
    with pytest.raises(asyncio.CancelledError), telemetry.span("stopped"):
        raise asyncio.CancelledError
    running.flush()

    spans = {record.name: record for record in read_spans(trace_file)}
    assert spans["failing"].status == "error"
    assert spans["failing"].attributes == {"error.type": "TransientFault:stream-cut"}
    assert spans["stopped"].status == "unset"
    assert "secret plan" not in trace_file.read_text()


def test_unconfigured_telemetry_hands_a_trace_on() -> None:
    """Without configuration nothing fails, and a remote trace still passes."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert telemetry.trace_id() is None
    assert telemetry.carrier() == {}
    telemetry.set_attributes({names.DE_TASK: "task_1"})
    with telemetry.consumer_span("x", {"Traceparent": parent}):
        assert telemetry.trace_id() == "0af7651916cd43dd8448eb211c80319c"
        assert telemetry.carrier()["traceparent"] == parent


def test_a_trace_without_exporter_still_has_ids() -> None:
    """Logs and headers carry a trace id even when no span is kept."""
    running = telemetry.configure("gateway", "gateway_1", app_env="production")
    try:
        with telemetry.span("GET /v1/tasks"):
            assert telemetry.trace_id() is not None
            flags = int(telemetry.carrier()["traceparent"].rsplit("-", 1)[1], 16)
            assert flags & 1 == 0
    finally:
        running.shutdown()


def test_the_span_file_is_bounded_and_survives_a_torn_line(
    running: Telemetry, trace_file: Path
) -> None:
    """The file begins anew past its size, and a torn line hides no other."""
    with telemetry.span("first"):
        pass
    running.flush()
    with trace_file.open("ab") as file:
        file.write(b'{"trace_id": "torn\n')
    with telemetry.span("second"):
        pass
    running.flush()
    assert [record.name for record in read_spans(trace_file)] == ["first", "second"]

    FileSpanExporter(trace_file, size_max_bytes=1).export([])
    assert trace_file.with_name("spans.jsonl.1").exists()
    assert [record.name for record in read_spans(trace_file)] == ["first", "second"]
