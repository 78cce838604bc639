"""
Spans and the carrier that joins them over a hop.

Span names are templates (``work.agent-runtime.step``), never concrete subjects
or ids. An exception's text never enters a span, only its type: the text may
carry a prompt.
"""

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import (
    Link,
    NoOpTracer,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from telemetry.names import ERROR_TYPE

AttributeValue = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, AttributeValue]

_PROPAGATOR = CompositePropagator(
    [TraceContextTextMapPropagator(), W3CBaggagePropagator()]
)
_FIELDS = ("traceparent", "tracestate", "baggage")
_IDLE = NoOpTracer()


class _Current:
    """The process's tracer; ``configure`` sets it, ``shutdown`` takes it away."""

    tracer: Tracer = _IDLE


def use(tracer: Tracer | None) -> None:
    """Make spans with this tracer from now on; None makes none."""
    _Current.tracer = _IDLE if tracer is None else tracer


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Generator[Span]:
    """
    Trace the block as a child of the current span.

    Args:
        name: A template, one of a bounded set.
        attributes: Keys from ``telemetry.names``; no prompts, no secrets.
        kind: What the span is to its peer.
    """
    opened = _Current.tracer.start_span(name, kind=kind, attributes=attributes)
    with _inside(opened):
        yield opened


@contextmanager
def consumer_span(
    name: str,
    headers: Mapping[str, str],
    attributes: Attributes | None = None,
    kind: SpanKind = SpanKind.CONSUMER,
) -> Generator[Span]:
    """
    Trace the handling of a message as part of its sender's trace.

    The producing span is the parent, so that one trace goes over every hop, and
    a link as well, so that a reader can tell a queue from a call.

    Args:
        name: The subject's template.
        headers: The message's headers, in any case.
        attributes: Keys from ``telemetry.names``.
        kind: ``SERVER`` for a request that waits for its answer.
    """
    parent = _PROPAGATOR.extract(_fields_of(headers), context.Context())
    producer = trace.get_current_span(parent).get_span_context()
    links = [Link(producer)] if producer.is_valid else []
    token = context.attach(parent)
    try:
        opened = _Current.tracer.start_span(
            name, kind=kind, attributes=attributes, links=links
        )
        with _inside(opened):
            yield opened
    finally:
        context.detach(token)


def carrier() -> dict[str, str]:
    """Return the current trace context as message headers; empty without one."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def trace_id() -> str | None:
    """Return the current trace's id as 32 hex digits; None outside a trace."""
    current = trace.get_current_span().get_span_context()
    return f"{current.trace_id:032x}" if current.is_valid else None


def span_id() -> str | None:
    """Return the current span's id as 16 hex digits; None outside a trace."""
    current = trace.get_current_span().get_span_context()
    return f"{current.span_id:016x}" if current.is_valid else None


def set_attributes(attributes: Attributes) -> None:
    """Add to the current span what was only learnt inside it."""
    trace.get_current_span().set_attributes(attributes)


@contextmanager
def _inside(opened: Span) -> Generator[None]:
    token = context.attach(trace.set_span_in_context(opened))
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        opened.set_attribute(ERROR_TYPE, "cancelled")
        raise
    except BaseException as error:
        opened.set_attribute(ERROR_TYPE, _name_of(error))
        opened.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        context.detach(token)
        opened.end()


def _name_of(error: BaseException) -> str:
    code = getattr(error, "code", None)
    name = type(error).__name__
    return f"{name}:{code}" if isinstance(code, str) else name


def _fields_of(headers: Mapping[str, str]) -> dict[str, str]:
    found = {field: headers[field] for field in _FIELDS if field in headers}
    if found:
        return found
    return {
        key.lower(): text for key, text in headers.items() if key.lower() in _FIELDS
    }
