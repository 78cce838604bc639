"""
Every name that leaves a process by telemetry, so that dashboards can rely on it.

A metric has the labels that ``metrics`` gives it and no others; each label's
values are a closed set or guarded by a bound.
"""

from typing import Final, Literal

CounterName = Literal[
    "http_requests_total",
    "messages_processed_total",
    "dead_letters_total",
    "ai_requests_total",
    "ai_tokens_used_total",
    "ai_answer_quality_total",
    "ai_cache_hits_total",
    "ai_retries_total",
    "ai_failovers_total",
    "ai_hedges_total",
    "tasks_total",
    "steps_total",
    "tool_calls_total",
    "ledger_entries_total",
    "ledger_pico_usd_total",
    "messages_resent_total",
    "events_received_total",
    "budget_refusals_total",
    "budget_denials_total",
    "rate_limited_total",
    "rate_limits_skipped_total",
    "rate_file_reloads_total",
    "catalogue_reloads_total",
]
HistogramName = Literal[
    "http_request_duration_seconds",
    "message_duration_seconds",
    "ai_request_duration_seconds",
    "time_to_first_token_seconds",
    "ai_output_tokens_per_second",
    "ai_pacing_wait_seconds",
    "task_duration_seconds",
    "commit_duration_seconds",
]
GaugeName = Literal[
    "outbox_backlog",
    "requests_in_flight",
    "streams_open",
    "budget_pico_usd",
    "budget_slices_pico_usd",
    "catalogue_rejected",
    "rate_file_rejected",
    "cost_last_hour_pico_usd",
    "ai_breaker_state",
]

BUCKETS_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    30.0,
    60.0,
    120.0,
    300.0,
)
"""Seconds; the SDK's defaults are meant for milliseconds and end at 10."""

RATE_BUCKETS: Final = (
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    40.0,
    80.0,
    160.0,
    320.0,
    640.0,
    1_280.0,
)
"""Per second: how fast a model writes."""

# Values of the closed labels. What is not listed is counted as ``other``.
Outcome = Literal[
    "ok",
    "duplicate",
    "refused",
    "transient",
    "permanent",
    "bug",
    "invalid",
    "cancelled",
    "overloaded",
]
OUTCOMES: Final[frozenset[str]] = frozenset(
    {
        "ok",
        "duplicate",
        "refused",
        "transient",
        "permanent",
        "bug",
        "invalid",
        "cancelled",
        "overloaded",
    }
)
HTTP_METHODS: Final[frozenset[str]] = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
)
OTHER: Final = "other"

# Span attributes: OpenTelemetry's semantic conventions first, ours after.
SERVICE_NAME: Final = "service.name"
SERVICE_INSTANCE: Final = "service.instance.id"
ENVIRONMENT: Final = "deployment.environment.name"
ERROR_TYPE: Final = "error.type"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_TEMPLATE: Final = "messaging.destination.template"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_BODY_SIZE: Final = "messaging.message.body.size"
SERVER_ADDRESS: Final = "server.address"
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
DE_TENANT: Final = "de.tenant"
DE_TASK: Final = "de.task_id"
DE_STEP: Final = "de.step_id"
DE_TURN: Final = "de.turn"
DE_COMPLETION: Final = "de.completion_id"
DE_ATTEMPT: Final = "de.attempt_id"
DE_EMPLOYEE: Final = "de.employee"
DE_OUTCOME: Final = "de.outcome"
DE_DELIVERIES: Final = "de.deliveries"
DE_PICO_USD: Final = "de.pico_usd"

# Keys of a log line that every line may carry.
TRACE_ID: Final = "trace_id"
SPAN_ID: Final = "span_id"
TASK_ID: Final = "task_id"
TENANT: Final = "tenant"
SERVICE: Final = "service"
INSTANCE: Final = "instance"

# Log events that more than one service writes. A service's own events are named
# where they are written: past tense, snake case.
SERVICE_STARTED: Final = "service_started"
SERVICE_READY: Final = "service_ready"
SERVICE_DRAINING: Final = "service_draining"
SERVICE_STOPPED: Final = "service_stopped"
MESSAGE_RETRIED: Final = "message_retried"
MESSAGE_DEAD_LETTERED: Final = "message_dead_lettered"
MESSAGE_RESENT: Final = "message_resent"
REQUEST_REFUSED: Final = "request_refused"
REQUEST_FAILED: Final = "request_failed"
LOOP_FAILED: Final = "loop_failed"
READINESS_LOST: Final = "readiness_lost"
READINESS_REGAINED: Final = "readiness_regained"
