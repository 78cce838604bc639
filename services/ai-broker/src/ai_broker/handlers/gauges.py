"""What is measured of a vendor call: its span, its metrics, its line in the log."""

from typing import Final

import telemetry
from ai_broker.domain import quality
from ai_broker.domain.attempt import Settlement
from ai_broker.domain.vendor import Failure
from contracts.usage import EndState, UsageRecord
from telemetry import names

RATE_TOKENS_MIN: Final = 2
"""A single token has no rate."""

log = telemetry.get_logger()


def asked(record: UsageRecord, operation: str) -> telemetry.Attributes:
    """Return the attributes that a call's span begins with."""
    return {
        names.GEN_AI_OPERATION: operation,
        names.GEN_AI_PROVIDER: record.vendor,
        names.GEN_AI_REQUEST_MODEL: record.model,
        names.DE_ATTEMPT: record.attempt_id,
        names.DE_COMPLETION: record.completion_id,
    }


def first_token(record: UsageRecord, after_s: float) -> None:
    """Count a call's first token."""
    telemetry.metrics.time_to_first_token_seconds.record(
        after_s, vendor=record.vendor, model=record.model
    )


def broken(failure: Failure) -> None:
    """Note on the span why the vendor failed."""
    error_type = failure.code or (
        str(failure.status) if failure.status else failure.kind.value
    )
    telemetry.set_attributes({names.ERROR_TYPE: error_type})


def ended(
    record: UsageRecord, settled: Settlement, first_s: float | None, whole_s: float
) -> None:
    """
    Count a call that ended.

    Args:
        record: What was dispatched.
        settled: How it ended.
        first_s: When its first token came, None if none came.
        whole_s: When it ended.
    """
    usage, outcome = settled.usage, settled.end_state.value
    labels = {"vendor": record.vendor, "model": record.model}
    metrics = telemetry.metrics
    metrics.ai_requests_total.add(1, **labels, outcome=outcome)
    metrics.ai_request_duration_seconds.record(whole_s, **labels, outcome=outcome)
    for part, tokens in usage.parts().items():
        if tokens:
            metrics.ai_tokens_used_total.add(tokens, **labels, part=part)
    if settled.quality is not None:
        for signal in quality.flagged(settled.quality):
            metrics.ai_answer_quality_total.add(1, **labels, signal=signal)
    outputs = usage.output_tokens + usage.reasoning_tokens + usage.output_audio_tokens
    if settled.end_state is EndState.COMPLETED and first_s is not None:
        writing_s = whole_s - first_s
        if outputs >= RATE_TOKENS_MIN and writing_s > 0:
            # The first token's time is the waiting before, not writing.
            rate = (outputs - 1) / writing_s
            metrics.ai_output_tokens_per_second.record(rate, **labels)
    _describe(record, settled, outputs, whole_s)


def _describe(
    record: UsageRecord, settled: Settlement, outputs: int, whole_s: float
) -> None:
    usage, outcome = settled.usage, settled.end_state.value
    attributes: dict[str, telemetry.AttributeValue] = {
        names.GEN_AI_INPUT_TOKENS: usage.total - outputs,
        names.GEN_AI_OUTPUT_TOKENS: outputs,
        names.GEN_AI_RESPONSE_MODEL: settled.model or record.model,
        names.DE_OUTCOME: outcome,
    }
    if settled.finish_reason is not None:
        attributes[names.GEN_AI_FINISH_REASONS] = [settled.finish_reason]
    if settled.vendor_request_id is not None:
        attributes[names.GEN_AI_RESPONSE_ID] = settled.vendor_request_id
    telemetry.set_attributes(attributes)
    log.info(
        "attempt_ended",
        attempt_id=record.attempt_id,
        completion_id=record.completion_id,
        tenant=record.tenant,
        vendor=record.vendor,
        model=record.model,
        outcome=outcome,
        http_status=settled.http_status,
        tokens=usage.total,
        source=settled.source.value,
        duration_s=round(whole_s, 4),
    )
