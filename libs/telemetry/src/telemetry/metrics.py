"""
Every metric of the platform, made once.

    metrics.tasks_total.add(1, status="completed")
    metrics.outbox_backlog.set(3, service="orchestrator")
    metrics.message_processed(subject=str(verb), outcome="ok", duration_s=0.012)

The functions at the end count one event in all the metrics that it belongs to.

Label values are templates, never concrete subjects, paths, tenants or ids.
"""

from opentelemetry.metrics import Meter

from telemetry.instruments import (
    Closed,
    Counter,
    Gauge,
    Histogram,
    LabelGuard,
    Labels,
)
from telemetry.names import HTTP_METHODS, OTHER, OUTCOMES, Outcome

_STATUS_LOWEST = 100
_STATUS_HIGHEST = 599

_method = Closed(HTTP_METHODS)
_outcome = Closed(OUTCOMES)
_route = LabelGuard(120)
_subject = LabelGuard(120)
_service = LabelGuard(16)
_reason = LabelGuard(48)
_vendor = LabelGuard(24)
_model = LabelGuard(96)
_attempt_outcome = LabelGuard(16)
_part = LabelGuard(16)
_signal = LabelGuard(16)
_hedge_outcome = Closed(frozenset({"won", "lost", "not-made"}))
_status = LabelGuard(16)
_tool = LabelGuard(64)
_account = LabelGuard(16)
_kind = LabelGuard(8)
_state = LabelGuard(8)
_measure = Closed(frozenset({"requests", "tokens", "concurrent"}))
_rate_step = Closed(frozenset({"admit", "settle", "keep"}))


def _http(*, method: str, route: str, status: int) -> Labels:
    return {
        "method": _method(method),
        "route": _route(route),
        "status": str(status) if _STATUS_LOWEST <= status <= _STATUS_HIGHEST else OTHER,
    }


def _message(*, subject: str, outcome: str) -> Labels:
    return {"subject": _subject(subject), "outcome": _outcome(outcome)}


def _of_service(*, service: str) -> Labels:
    return {"service": _service(service)}


def _of_reason(*, service: str, reason: str) -> Labels:
    return {"service": _service(service), "reason": _reason(reason)}


def _ai_request(*, vendor: str, model: str, outcome: str) -> Labels:
    return {
        "vendor": _vendor(vendor),
        "model": _model(model),
        "outcome": _attempt_outcome(outcome),
    }


def _ai_tokens(*, vendor: str, model: str, part: str) -> Labels:
    return {"vendor": _vendor(vendor), "model": _model(model), "part": _part(part)}


def _ai_quality(*, vendor: str, model: str, signal: str) -> Labels:
    return {
        "vendor": _vendor(vendor),
        "model": _model(model),
        "signal": _signal(signal),
    }


def _ai_model(*, vendor: str, model: str) -> Labels:
    return {"vendor": _vendor(vendor), "model": _model(model)}


def _ai_failure(*, vendor: str, reason: str) -> Labels:
    return {"vendor": _vendor(vendor), "reason": _reason(reason)}


def _ai_hedge(*, vendor: str, outcome: str) -> Labels:
    return {"vendor": _vendor(vendor), "outcome": _hedge_outcome(outcome)}


def _of_status(*, status: str) -> Labels:
    return {"status": _status(status)}


def _tool_call(*, tool: str, outcome: str) -> Labels:
    return {"tool": _tool(tool), "outcome": _outcome(outcome)}


def _of_account(*, account: str) -> Labels:
    return {"account": _account(account)}


def _of_why(*, reason: str) -> Labels:
    return {"reason": _reason(reason)}


def _of_state(*, state: str) -> Labels:
    return {"state": _state(state)}


def _of_kind(*, kind: str) -> Labels:
    return {"kind": _kind(kind)}


def _of_kind_and_state(*, kind: str, state: str) -> Labels:
    return {"kind": _kind(kind), "state": _state(state)}


def _of_kind_and_measure(*, kind: str, measure: str) -> Labels:
    return {"kind": _kind(kind), "measure": _measure(measure)}


def _of_rate_step(*, step: str) -> Labels:
    return {"step": _rate_step(step)}


def _of_nothing() -> Labels:
    return {}


def _of_subject(*, subject: str) -> Labels:
    return {"subject": _subject(subject)}


def _of_outcome(*, outcome: str) -> Labels:
    return {"outcome": _outcome(outcome)}


http_requests_total = Counter(
    "http_requests_total", "HTTP requests by route template and status.", _http
)
http_request_duration_seconds = Histogram(
    "http_request_duration_seconds", "Time to answer an HTTP request.", _http
)
messages_processed_total = Counter(
    "messages_processed_total", "NATS messages by subject template.", _message
)
message_duration_seconds = Histogram(
    "message_duration_seconds", "Time to handle a NATS message.", _message
)
messages_resent_total = Counter(
    "messages_resent_total", "Owed messages sent again, by template.", _of_subject
)
dead_letters_total = Counter(
    "dead_letters_total", "Messages given up, by problem code.", _of_reason
)
outbox_backlog = Gauge(
    "outbox_backlog", "Owed messages whose receiver has not got them.", _of_service
)
requests_in_flight = Gauge(
    "requests_in_flight", "Requests being answered now.", _of_service
)
streams_open = Gauge("streams_open", "Answers in frames being sent now.", _of_service)
commit_duration_seconds = Histogram(
    "commit_duration_seconds", "Time to run and commit a transaction.", _of_service
)
ai_requests_total = Counter(
    "ai_requests_total", "Vendor attempts by end state.", _ai_request
)
ai_tokens_used_total = Counter(
    "ai_tokens_used_total", "Tokens by part of the usage partition.", _ai_tokens
)
ai_cache_hits_total = Counter(
    "ai_cache_hits_total", "Answers of equal questions given again.", _ai_model
)
ai_answer_quality_total = Counter(
    "ai_answer_quality_total", "Answers with a defect of form, by signal.", _ai_quality
)
ai_request_duration_seconds = Histogram(
    "ai_request_duration_seconds", "Time of a vendor attempt.", _ai_request
)
time_to_first_token_seconds = Histogram(
    "time_to_first_token_seconds", "Time to a vendor's first content.", _ai_model
)
ai_output_tokens_per_second = Histogram(
    "ai_output_tokens_per_second",
    "Output tokens per second of an answer, after its first.",
    _ai_model,
    unit="",
)
ai_retries_total = Counter(
    "ai_retries_total", "Calls repeated at the vendor that failed, by why.", _ai_failure
)
ai_failovers_total = Counter(
    "ai_failovers_total", "Calls moved away from a vendor that failed.", _ai_failure
)
ai_hedges_total = Counter(
    "ai_hedges_total", "Second calls beside a slow one, by its vendor.", _ai_hedge
)
ai_breaker_state = Gauge(
    "ai_breaker_state", "Breaker: 0 closed, 1 half-open, 2 open.", _ai_model
)
ai_pacing_wait_seconds = Histogram(
    "ai_pacing_wait_seconds", "Waits for a vendor's rate limit.", _ai_model
)
tasks_total = Counter("tasks_total", "Tasks by the status they reached.", _of_status)
task_duration_seconds = Histogram(
    "task_duration_seconds", "Time from acceptance to the end of a task.", _of_status
)
steps_total = Counter("steps_total", "Steps by how they ended.", _of_status)
tool_calls_total = Counter("tool_calls_total", "Tool calls by outcome.", _tool_call)
events_received_total = Counter(
    "events_received_total", "Events of other systems by outcome.", _of_outcome
)
ledger_entries_total = Counter(
    "ledger_entries_total", "Ledger entries posted, by account.", _of_account
)
ledger_pico_usd_total = Counter(
    "ledger_pico_usd_total", "Pico-USD debited, by account.", _of_account
)
budget_refusals_total = Counter(
    "budget_refusals_total",
    "Leases refused for want of money, by the kind of scope.",
    _of_kind,
)
budget_denials_total = Counter(
    "budget_denials_total", "Completions denied by ai-broker, by why.", _of_why
)
rate_limited_total = Counter(
    "rate_limited_total",
    "Completions refused by a rate limit, by kind of scope and what is limited.",
    _of_kind_and_measure,
)
rate_limits_skipped_total = Counter(
    "rate_limits_skipped_total",
    "Calls whose rates could not be counted, by when; admitted uncounted.",
    _of_rate_step,
)
rate_file_reloads_total = Counter(
    "rate_file_reloads_total",
    "Changed files of rate limits, taken or rejected.",
    _of_outcome,
)
rate_file_rejected = Gauge(
    "rate_file_rejected",
    "1 while the file of rate limits has a mistake and the last good one is used.",
    _of_nothing,
)
budget_slices_pico_usd = Gauge(
    "budget_slices_pico_usd", "Pico-USD lent to this replica, by state.", _of_state
)
budget_pico_usd = Gauge(
    "budget_pico_usd",
    "Pico-USD of all budgets that are spent, held and free, by kind of scope.",
    _of_kind_and_state,
)
cost_last_hour_pico_usd = Gauge(
    "cost_last_hour_pico_usd", "What all attempts of the last hour cost.", _of_nothing
)
catalogue_reloads_total = Counter(
    "catalogue_reloads_total",
    "Changed catalogues of vendors, taken or rejected.",
    _of_outcome,
)
catalogue_rejected = Gauge(
    "catalogue_rejected",
    "1 while the vendors' catalogue has a mistake and the last good one is used.",
    _of_nothing,
)

COUNTERS = (
    http_requests_total,
    messages_processed_total,
    messages_resent_total,
    dead_letters_total,
    ai_requests_total,
    ai_tokens_used_total,
    ai_answer_quality_total,
    ai_cache_hits_total,
    ai_retries_total,
    ai_failovers_total,
    ai_hedges_total,
    tasks_total,
    steps_total,
    tool_calls_total,
    events_received_total,
    ledger_entries_total,
    ledger_pico_usd_total,
    budget_refusals_total,
    budget_denials_total,
    rate_limited_total,
    rate_limits_skipped_total,
    rate_file_reloads_total,
    catalogue_reloads_total,
)
HISTOGRAMS = (
    http_request_duration_seconds,
    message_duration_seconds,
    commit_duration_seconds,
    ai_request_duration_seconds,
    time_to_first_token_seconds,
    ai_output_tokens_per_second,
    ai_pacing_wait_seconds,
    task_duration_seconds,
)
GAUGES = (
    outbox_backlog,
    requests_in_flight,
    streams_open,
    budget_pico_usd,
    budget_slices_pico_usd,
    catalogue_rejected,
    rate_file_rejected,
    cost_last_hour_pico_usd,
    ai_breaker_state,
)


def bind(meter: Meter | None) -> None:
    """Send every metric to this meter from now on; None sends them nowhere."""
    for counter in COUNTERS:
        counter.bind(meter)
    for histogram in HISTOGRAMS:
        histogram.bind(meter)
    for gauge in GAUGES:
        gauge.bind(meter)


def message_processed(*, subject: str, outcome: Outcome, duration_s: float) -> None:
    """Count one handled message, by its subject's template, and its time."""
    messages_processed_total.add(1, subject=subject, outcome=outcome)
    message_duration_seconds.record(duration_s, subject=subject, outcome=outcome)


def dead_letter(service: str, reason: str) -> None:
    """Count one dead letter, by its problem code."""
    dead_letters_total.add(1, service=service, reason=reason)


def ledger_line(*, account: str, pico_usd: int) -> None:
    """Count one ledger entry and what it debits; a reversal debits nothing."""
    ledger_entries_total.add(1, account=account)
    if pico_usd > 0:
        ledger_pico_usd_total.add(pico_usd, account=account)
