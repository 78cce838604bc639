"""Metrics have the promised names, buckets and bounded labels."""

from prometheus_client import generate_latest

from telemetry import Telemetry, metrics
from telemetry.instruments import Closed, LabelGuard


def test_metrics_keep_their_names_and_labels(running: Telemetry) -> None:
    """A dashboard finds each metric by its name, with no label of the SDK's."""
    metrics.http_requests_total.add(2, method="GET", route="/v1/tasks", status=200)
    metrics.http_requests_total.add(1, method="BREW", route="/v1/tasks", status=7)
    metrics.outbox_backlog.set(3, service="gateway")
    metrics.ledger_pico_usd_total.add(37_500, account="tenant-cogs")

    lines = generate_latest(running.registry).decode().splitlines()

    assert (
        'http_requests_total{method="GET",route="/v1/tasks",status="200"} 2.0' in lines
    )
    assert (
        'http_requests_total{method="other",route="/v1/tasks",status="other"} 1.0'
        in lines
    )
    assert 'outbox_backlog{service="gateway"} 3.0' in lines
    assert 'ledger_pico_usd_total{account="tenant-cogs"} 37500.0' in lines


def test_buckets_are_seconds_up_to_five_minutes(running: Telemetry) -> None:
    """A four-minute vendor call still falls into a finite bucket."""
    metrics.ai_request_duration_seconds.record(
        240.0, vendor="sandbox", model="sandbox/small", outcome="completed"
    )

    text = generate_latest(running.registry).decode()

    assert 'ai_request_duration_seconds_bucket{le="120.0"' in text
    row = next(line for line in text.splitlines() if 'le="300.0"' in line)
    assert row.endswith(" 1.0")


def test_the_guard_bounds_distinct_values() -> None:
    """Early values keep their series; what comes past the bound is one series."""
    guard = LabelGuard(2, known=("sandbox",))
    seen = [guard(value) for value in ("openai", "made-up", "sandbox", "openai")]
    assert seen == ["openai", "other", "sandbox", "openai"]
    assert Closed(frozenset({"ok"}))("unheard-of") == "other"


def test_unbound_metrics_cost_nothing() -> None:
    """Who has configured nothing may still count."""
    metrics.tasks_total.add(1, status="completed")
    metrics.commit_duration_seconds.record(0.001, service="gateway")
    metrics.outbox_backlog.set(1, service="gateway")
    assert b"tasks_total" not in generate_latest()
