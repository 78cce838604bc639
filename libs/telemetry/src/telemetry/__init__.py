"""
Traces, metrics and logs, and the face that shows a service's state.

Everything works before ``configure`` and after ``Telemetry.shutdown``: spans and
metrics then cost next to nothing and lead nowhere, and a carrier still hands a
remote trace on. Only ``configure`` imports the SDK.
"""

from opentelemetry.trace import SpanKind

from telemetry import metrics
from telemetry.logs import bind, get_logger
from telemetry.setup import Telemetry, configure
from telemetry.tracing import (
    Attributes,
    AttributeValue,
    carrier,
    consumer_span,
    set_attributes,
    span,
    trace_id,
)

__all__ = [
    "AttributeValue",
    "Attributes",
    "SpanKind",
    "Telemetry",
    "bind",
    "carrier",
    "configure",
    "consumer_span",
    "get_logger",
    "metrics",
    "set_attributes",
    "span",
    "trace_id",
]
