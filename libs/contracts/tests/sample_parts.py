"""Values that several samples share, with every field that matters set."""

from datetime import UTC, datetime
from typing import Final

from contracts import (
    budgets,
    completions,
    deadletters,
    employees,
    events,
    prices,
    problems,
    rates,
    tasks,
    turns,
    usage,
    vendors,
)

AT: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TENANT: Final = "acme"
TASK: Final = "task_0f0e0d0c0b0a09080706050403020100"
STEP: Final = "step_0f0e0d0c0b0a09080706050403020100"
ATTEMPT: Final = "attempt_0f0e0d0c0b0a09080706050403020100"
COMPLETION: Final = f"{STEP}:1"
DIGEST: Final = "ab" * 32

USAGE: Final = usage.TokenUsage(
    input_tokens=812, cache_read_tokens=64, output_tokens=97, reasoning_tokens=12
)
PROBLEM: Final = problems.problem(
    problems.Code.EMPLOYEE_UNKNOWN,
    "no employee invoice-clerk: apply its document first",
    instance="/do/0/work",
    errors=(problems.FieldError(pointer="/employee", detail="is not known"),),
)
ENVELOPE: Final = problems.ErrorEnvelope(
    problem=PROBLEM, retryable=True, retry_after_s=1.5
)
RATE_LIMITED: Final = problems.ErrorEnvelope(
    problem=problems.problem(problems.Code.RATE_LIMITED, "Ask again in 1.0 s"),
    retryable=True,
    retry_after_s=1.0,
    rates=(
        rates.RateStanding(
            policy="user-tokens",
            measure=rates.Measure.TOKENS,
            limit=1_000,
            left=0,
            resets_in_s=1.0,
        ),
    ),
)
STANDINGS: Final = (
    rates.RateStanding(
        policy="api-key-requests",
        measure=rates.Measure.REQUESTS,
        limit=60,
        left=59,
        resets_in_s=1.0,
    ),
    rates.RateStanding(
        policy="tenant-concurrent",
        measure=rates.Measure.CONCURRENT,
        limit=8,
        left=7,
    ),
)
SUMMARY: Final = completions.AttemptSummary(
    attempt_id=ATTEMPT,
    vendor="sandbox-openai",
    model="sandbox-small",
    end_state=usage.EndState.COMPLETED,
    usage=USAGE,
    source=usage.UsageSource.VENDOR,
)
COMPLETION_MADE: Final = completions.Completion(
    completion_id=COMPLETION,
    vendor="sandbox-openai",
    model="sandbox-small",
    parts=(
        completions.ReasoningPart(text="First the sums.", signature="c2ln"),
        completions.TextPart(text="I read the letter."),
        completions.ToolCallPart(
            call_id="call_1", name="read_file", arguments='{"path":"letter.txt"}'
        ),
    ),
    finish_reason=completions.FinishReason.TOOL_CALLS,
    usage=USAGE,
    attempts=(SUMMARY,),
    service_tier="default",
    created_at=AT,
)
TURN: Final = turns.TurnRecord(
    turn=1,
    text="I read the letter.",
    model="sandbox-small",
    vendor="sandbox-openai",
    finish_reason=completions.FinishReason.TOOL_CALLS,
    tool_calls=(
        turns.ToolCallRecord(
            call_id="call_1",
            name="read_file",
            arguments='{"path":"letter.txt"}',
            result="Dear customer",
        ),
    ),
    attempts=(SUMMARY,),
    started_at=AT,
    finished_at=AT,
)
FILE: Final = tasks.TaskFile(name="letter.txt", content="Dear customer")
RECORD: Final = usage.UsageRecord(
    attempt_id=ATTEMPT,
    revision=0,
    attempt_number=1,
    tenant=TENANT,
    completion_id=COMPLETION,
    task_id=TASK,
    step_id=STEP,
    employee="invoice-clerk",
    api_key_id="k1",
    vendor="sandbox-openai",
    requested_model="smart",
    model="sandbox-small",
    service_tier="default",
    usage=USAGE,
    source=usage.UsageSource.VENDOR,
    end_state=usage.EndState.COMPLETED,
    finish_reason="tool-calls",
    http_status=200,
    vendor_request_id="req_1",
    raw_usage={"prompt_tokens": 876},
    started_at=AT,
    occurred_at=AT,
)
EMPLOYEE: Final = employees.Employee(
    name="invoice-clerk",
    role="Invoice clerk",
    instructions="Check every sum.",
    tools=("read_file", "calculator"),
    output_schema={"type": "object", "properties": {"sums_match": {"type": "boolean"}}},
    manager="Head of accounts",
)
TRIGGER: Final = events.Trigger(
    name="invoice-received",
    subject="invoice.received",
    where={"data.kind": "letter"},
    task=events.TriggerTask(
        employee="invoice-clerk",
        goal="Check {{ data.name }}",
        input="data",
        files={"{{ data.name }}": "data.text"},
    ),
)
BUDGET: Final = budgets.Budget(
    scope=budgets.BudgetScope(kind=budgets.ScopeKind.TENANT, id=TENANT),
    period=budgets.BudgetPeriod.MONTH,
    limit_usd="12",
    time_zone="Asia/Shanghai",
)
SCOPES: Final = (budgets.BudgetScope(kind=budgets.ScopeKind.TENANT, id=TENANT),)
RATES: Final = prices.UnitPrices(**dict.fromkeys(usage.TokenUsage.model_fields, 37_500))
LETTER: Final = deadletters.DeadLetter(
    id="dead_1",
    service="orchestrator",
    tenant=TENANT,
    subject="events.acme.invoice.received",
    message_id="event:1",
    reason="invalid",
    detail="the body is not JSON",
    body=b"{",
    headers={"ce-id": "1"},
    created_at=AT,
)

VENDOR_PAGE: Final = vendors.VendorPage(
    vendors=(
        vendors.VendorInfo(
            name="azure",
            protocol="openai",
            usable=False,
            key=vendors.KeySource.NONE,
            why_not="its address is not set here: AZURE_OPENAI_ENDPOINT",
            other_models=True,
        ),
        vendors.VendorInfo(
            name="openai",
            protocol="openai",
            usable=True,
            key=vendors.KeySource.OWN,
            models=(
                vendors.VendorModel(
                    name="gpt-6.1-sol",
                    capabilities=("text", "tools"),
                    context_tokens=1_050_000,
                    output_tokens_max=128_000,
                    breaker=vendors.BreakerState.CLOSED,
                    first_token_s=0.42,
                ),
            ),
        ),
    ),
    instance="instance_0",
)
OFF_PEAK: Final = prices.Price(
    vendor="deepseek",
    model="deepseek-chat",
    effective_from=AT,
    tiers=(prices.PriceTier(input_tokens_above=0, prices=RATES),),
    source=prices.PriceSource.VENDOR_LIST,
    windows=(
        prices.PriceWindow(
            from_minute=990,
            until_minute=1_440,
            tiers=(prices.PriceTier(input_tokens_above=0, prices=RATES),),
        ),
    ),
)
DEEPSEEK: Final = prices.ModelName(
    vendor="deepseek",
    kind=prices.MatchKind.STARTS_WITH,
    text="deepseek-chat",
    model="deepseek-chat",
)
