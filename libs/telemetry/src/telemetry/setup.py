"""Starts the OpenTelemetry SDK for one process, and stops it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from telemetry import metrics, tracing
from telemetry.logs import configure_logs
from telemetry.names import (
    BUCKETS_S,
    ENVIRONMENT,
    RATE_BUCKETS,
    SERVICE_INSTANCE,
    SERVICE_NAME,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

DEVELOPMENT: Final = "development"
QUEUE_MAX: Final = 8_192
BATCH_MAX: Final = 512
FILE_DELAY_MS: Final = 300
OTLP_DELAY_MS: Final = 2_000
OTLP_TIMEOUT_S: Final = 5
SERIES_MAX: Final = 1_000
"""Per metric; more are folded into one overflow series."""


@dataclass(frozen=True)
class Telemetry:
    """A process's telemetry, running."""

    registry: CollectorRegistry
    """What ``/metrics`` shows."""
    tracer_provider: "TracerProvider"
    meter_provider: "MeterProvider"

    def flush(self, timeout_s: float = 2.0) -> None:
        """Write the spans that ended so far; blocks for at most ``timeout_s``."""
        self.tracer_provider.force_flush(int(timeout_s * 1000))

    def shutdown(self) -> None:
        """Write what is queued and let go; later calls of the API do nothing."""
        tracing.use(None)
        metrics.bind(None)
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


def configure(
    service: str,
    instance: str,
    *,
    log_level: str = "INFO",
    app_env: str = DEVELOPMENT,
    trace_file: Path | None = None,
    otlp_endpoint: str | None = None,
    sample_ratio: float = 1.0,
) -> Telemetry:
    """
    Start traces, metrics and logs of this process.

    Args:
        service: The service's name: ``ai-broker``.
        instance: This process's id.
        log_level: The lowest level that is written.
        app_env: ``development`` samples every trace.
        trace_file: Append spans here as JSON lines.
        otlp_endpoint: Send spans to this collector by OTLP over HTTP:
            ``http://collector:4318``.
        sample_ratio: Share of traces kept, outside development. A trace that a
            caller has sampled stays sampled.
    """
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 -- slow import

    configure_logs(service, instance, log_level)
    resource = Resource(
        {SERVICE_NAME: service, SERVICE_INSTANCE: instance, ENVIRONMENT: app_env}
    )
    ratio = 1.0 if app_env == DEVELOPMENT else sample_ratio
    tracer_provider = _tracer_provider(resource, ratio, trace_file, otlp_endpoint)
    registry, meter_provider = _meter_provider(resource)
    tracing.use(tracer_provider.get_tracer("telemetry"))
    metrics.bind(meter_provider.get_meter("telemetry"))
    return Telemetry(registry, tracer_provider, meter_provider)


def _tracer_provider(
    resource: "Resource",
    ratio: float,
    trace_file: Path | None,
    otlp_endpoint: str | None,
) -> "TracerProvider":
    # The SDK costs a tenth of a second and 10 MB; who never configures never pays.
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import (  # noqa: PLC0415
        ALWAYS_OFF,
        ParentBasedTraceIdRatio,
    )

    leads_somewhere = trace_file is not None or otlp_endpoint is not None
    # Unsampled spans still have ids, so logs and headers keep their trace.
    sampler = ParentBasedTraceIdRatio(ratio) if leads_somewhere else ALWAYS_OFF
    provider = TracerProvider(
        sampler=sampler, resource=resource, shutdown_on_exit=False
    )
    if trace_file is not None:
        from telemetry.span_file import FileSpanExporter  # noqa: PLC0415

        provider.add_span_processor(
            BatchSpanProcessor(
                FileSpanExporter(trace_file),
                max_queue_size=QUEUE_MAX,
                schedule_delay_millis=FILE_DELAY_MS,
                max_export_batch_size=BATCH_MAX,
            )
        )
    if otlp_endpoint is not None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(
                    endpoint=otlp_endpoint.rstrip("/") + "/v1/traces",
                    timeout=OTLP_TIMEOUT_S,
                ),
                max_queue_size=QUEUE_MAX,
                schedule_delay_millis=OTLP_DELAY_MS,
                max_export_batch_size=BATCH_MAX,
            )
        )
    return provider


def _meter_provider(resource: "Resource") -> "tuple[CollectorRegistry, MeterProvider]":
    from opentelemetry.exporter.prometheus import (  # noqa: PLC0415 -- slow import
        PrometheusMetricReader,
    )
    from opentelemetry.sdk.metrics import (  # noqa: PLC0415
        AlwaysOffExemplarFilter,
        Histogram,
        MeterProvider,
    )
    from opentelemetry.sdk.metrics.view import (  # noqa: PLC0415
        ExplicitBucketHistogramAggregation,
        View,
    )

    registry = CollectorRegistry(auto_describe=False)
    reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    views = [
        View(
            instrument_type=Histogram,
            instrument_unit="s",
            aggregation=ExplicitBucketHistogramAggregation(BUCKETS_S),
        ),
        View(
            instrument_type=Histogram,
            instrument_unit="",
            aggregation=ExplicitBucketHistogramAggregation(RATE_BUCKETS),
        ),
    ]
    # The Prometheus exporter drops exemplars, so keeping them would be waste.
    provider = MeterProvider(
        metric_readers=[reader],
        resource=resource,
        views=views,
        exemplar_filter=AlwaysOffExemplarFilter(),
        shutdown_on_exit=False,
    )
    return registry, provider
