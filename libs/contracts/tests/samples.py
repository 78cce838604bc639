"""One sample of every frozen contract."""

from typing import Final

from sample_parts import (
    AT,
    ATTEMPT,
    BUDGET,
    COMPLETION,
    COMPLETION_MADE,
    DEEPSEEK,
    DIGEST,
    EMPLOYEE,
    ENVELOPE,
    FILE,
    LETTER,
    OFF_PEAK,
    PROBLEM,
    RATE_LIMITED,
    RATES,
    RECORD,
    SCOPES,
    STANDINGS,
    STEP,
    SUMMARY,
    TASK,
    TENANT,
    TRIGGER,
    TURN,
    USAGE,
    VENDOR_PAGE,
)

from contracts import (
    budgets,
    completions,
    credentials,
    deadletters,
    delivery,
    embeddings,
    employees,
    events,
    frames,
    ledger,
    manifests,
    models,
    prices,
    quality,
    steps,
    tasks,
    tenants,
    turns,
    usage,
    vendors,
)
from contracts.message import Message

SAMPLES: Final[dict[str, Message]] = {
    "completion-request": completions.CompletionRequest(
        completion_id=COMPLETION,
        tenant=TENANT,
        task_id=TASK,
        step_id=STEP,
        employee="invoice-clerk",
        user="ada",
        api_key_id="k1",
        model="smart",
        turns=(
            completions.ChatTurn(
                role=completions.Role.SYSTEM,
                parts=(
                    completions.TextPart(
                        text="You check invoices.", cache=completions.CacheLife.ONE_HOUR
                    ),
                ),
            ),
            completions.ChatTurn(
                role=completions.Role.USER,
                parts=(
                    completions.TextPart(text="Check letter.txt"),
                    completions.ImagePart(media_type="image/png", data=b"\x89PNG"),
                    completions.DocumentPart(
                        media_type="application/pdf", url="https://example.com/a.pdf"
                    ),
                ),
            ),
            completions.ChatTurn(
                role=completions.Role.TOOL,
                parts=(
                    completions.ToolResultPart(
                        call_id="call_1", content=(completions.TextPart(text="Dear"),)
                    ),
                ),
            ),
        ),
        tools=(
            completions.ToolSpec(
                name="read_file",
                description="Read a file of the task",
                parameters={"type": "object"},
            ),
        ),
        tool_choice=completions.ToolChoice(mode=completions.ToolMode.AUTO),
        output_schema=completions.OutputSchema(json_schema={"type": "object"}),
        output_tokens_max=4096,
        stop=("END",),
        sampling=completions.Sampling(temperature=0.2, seed=7),
        reasoning=completions.ReasoningBudget(effort="low"),
        metadata={"team": "accounts"},
        deadline=AT,
    ),
    "completion": COMPLETION_MADE,
    "frame-opened": frames.Opened(completion_id=COMPLETION, instance="instance_1"),
    "frame-opened-rated": frames.Opened(
        completion_id=COMPLETION,
        instance="instance_1",
        rates=STANDINGS,
    ),
    "frame-text": frames.TextDelta(number=1, part=0, text="I read"),
    "frame-text-first": frames.TextDelta(
        number=1,
        part=0,
        text="I",
        by=frames.Answerer(vendor="v", model="m", is_cached=True),
    ),
    "frame-reasoning": frames.ReasoningDelta(number=2, part=0, text="First"),
    "frame-tool-call": frames.ToolCallDelta(
        number=3, part=1, call_id="call_1", name="read_file", arguments="{"
    ),
    "frame-vectors": frames.VectorsDelta(number=4, first=0, vectors=(b"\0\0\x80?",)),
    "embedding-request": embeddings.EmbeddingRequest(
        completion_id=COMPLETION,
        tenant=TENANT,
        task_id=TASK,
        step_id=STEP,
        employee="invoice-clerk",
        user="ada",
        team="accounts",
        api_key_id="k1",
        model="sandbox-openai/sandbox-embedding-small",
        inputs=("Dear", "Sirs"),
        dimensions=256,
        cache_ttl_s=3_600,
        deadline=AT,
    ),
    "frame-ping": frames.Ping(number=4),
    "frame-finished": frames.Finished(number=5, completion=COMPLETION_MADE),
    "frame-rate-limited": frames.Failed(number=1, error=RATE_LIMITED),
    "frame-failed": frames.Failed(number=5, error=ENVELOPE, attempts=(SUMMARY,)),
    "cancel-completion": frames.CancelCompletion(
        tenant=TENANT, completion_id=COMPLETION
    ),
    "usage-record": RECORD,
    "quality-signals": quality.QualitySignals(
        truncated=True,
        schema_valid=False,
        arguments_valid=True,
        repetition=0.5,
        language_mismatch=False,
    ),
    "usage-batch": usage.UsageBatch(
        batch_id="usage:1", tenant=TENANT, records=(RECORD,)
    ),
    "broker-manifest": manifests.BrokerManifest(
        store_id="store_1", minute=AT, records=1, usage=USAGE, digest_sum=DIGEST
    ),
    "lease-request": budgets.LeaseRequest(
        lease_id="lease_1",
        tenant=TENANT,
        instance="instance_1",
        scopes=SCOPES,
        pico_usd_min=1,
        pico_usd_wanted=10**12,
        deadline=AT,
    ),
    "lease-reply": budgets.LeaseReply(
        grant=budgets.LeaseGrant(
            lease_id="lease_1", pico_usd=10**12, is_hard=True, expires_at=AT
        )
    ),
    "lease-refusal": budgets.LeaseReply(
        refusal=PROBLEM, refused_scope=SCOPES[0], resets_at=AT
    ),
    "lease-return": budgets.LeaseReturn(
        lease_id="lease_1",
        tenant=TENANT,
        instance="instance_1",
        spent_pico_usd=5,
        reserved_pico_usd=0,
    ),
    "lease-recall": budgets.LeaseRecall(tenant=TENANT, scopes=SCOPES),
    "lease-unlimited": budgets.LeaseReply(
        is_unlimited=True, limited_kinds=(budgets.ScopeKind.TASK,)
    ),
    "budget-apply": budgets.ApplyBudget(tenant=TENANT, budget=BUDGET),
    "budget-page": budgets.BudgetPage(
        budgets=(
            budgets.BudgetView(
                budget=BUDGET,
                limit_pico_usd=12 * 10**12,
                spent_pico_usd=2 * 10**12,
                held_pico_usd=10**12,
                free_pico_usd=9 * 10**12,
                resets_at=AT,
            ),
        ),
        next_cursor="tenant|month|acme",
    ),
    "balances-get": budgets.GetBalances(tenant=TENANT, scopes=SCOPES),
    "price-book": prices.PriceBook(
        version="2026-11-23",
        digest=DIGEST,
        prices=(
            prices.Price(
                vendor="sandbox-openai",
                model="sandbox-small",
                effective_from=AT,
                tiers=(prices.PriceTier(input_tokens_above=0, prices=RATES),),
                source=prices.PriceSource.SANDBOX,
            ),
        ),
        ceiling=RATES,
    ),
    "price-book-named": prices.PriceBook(
        version="genai-prices 0.2.3",
        digest=DIGEST,
        prices=(OFF_PEAK,),
        names=(DEEPSEEK,),
        ceiling=RATES,
    ),
    "submit-task": tasks.SubmitTask(
        task_id=TASK,
        tenant=TENANT,
        definition={"document": {"dsl": "1.0.0"}, "do": []},
        employee="invoice-clerk",
        goal="Check letter.txt",
        input={"supplier": 17},
        files=(FILE,),
        api_key_id="k1",
        submitted_at=AT,
    ),
    "task-view": tasks.TaskView(
        task_id=TASK,
        tenant=TENANT,
        status=tasks.TaskStatus.COMPLETED,
        employee="invoice-clerk",
        goal="Check letter.txt",
        output={"sums_match": False},
        steps=(
            tasks.StepView(
                step_id=STEP,
                pointer="/do/0/work",
                employee="invoice-clerk",
                employee_version=1,
                status=tasks.StepStatus.COMPLETED,
                turns=(TURN,),
                output={"sums_match": False},
                started_at=AT,
                finished_at=AT,
            ),
        ),
        usage=USAGE,
        attempts=1,
        turns=1,
        tool_calls=1,
        cost=tasks.CostView(
            pico_usd=1_234_500_000, usd="0.0012345", attempts=1, provisional=False
        ),
        trace_id="0af7651916cd43dd8448eb211c80319c",
        last_seq=5,
        created_at=AT,
        finished_at=AT,
    ),
    "task-event": tasks.TaskEvent(
        seq=1, type=tasks.TaskEventType.TASK_STARTED, at=AT, data={"goal": "Check"}
    ),
    "task-changed": tasks.TaskChanged(
        task_id=TASK,
        tenant=TENANT,
        status=tasks.TaskStatus.COMPLETED,
        seq=5,
        type=tasks.TaskEventType.TASK_COMPLETED,
        at=AT,
        triggered_by="invoice-received:1",
        output={"sums_match": False},
    ),
    "live-delta": tasks.LiveDelta(
        task_id=TASK, step_id=STEP, fence=1, turn=1, offset=0, text="I read"
    ),
    "step-requested": steps.StepRequested(
        tenant=TENANT,
        task_id=TASK,
        step_id=STEP,
        employee="invoice-clerk",
        goal="Check letter.txt",
        input={"supplier": 17},
        files=(FILE,),
        api_key_id="k1",
        deadline=AT,
    ),
    "step-finished": steps.StepFinished(
        tenant=TENANT,
        task_id=TASK,
        step_id=STEP,
        fence=1,
        outcome=steps.StepOutcome.COMPLETED,
        output={"sums_match": False},
        employee_version=1,
        turns=(TURN,),
        finished_at=AT,
    ),
    "cancel-step": steps.CancelStep(
        tenant=TENANT, task_id=TASK, step_id=STEP, reason="asked by the user"
    ),
    "turn-finished": turns.TurnFinished(
        tenant=TENANT, task_id=TASK, step_id=STEP, fence=1, turn=TURN
    ),
    "employee": EMPLOYEE,
    "employee-version": employees.EmployeeVersion(
        tenant=TENANT, version=1, digest=DIGEST, employee=EMPLOYEE, created_at=AT
    ),
    "event": events.Event(
        tenant=TENANT,
        subject="events.acme.invoice.received",
        id="1",
        source="erp",
        type="invoice.received",
        time=AT,
        data={"kind": "letter"},
    ),
    "trigger": TRIGGER,
    "trigger-version": events.TriggerVersion(
        tenant=TENANT, version=1, digest=DIGEST, trigger=TRIGGER, created_at=AT
    ),
    "problem": PROBLEM,
    "error-envelope": ENVELOPE,
    "dead-letter": LETTER,
    "dead-letter-notice": deadletters.DeadLetterNotice(
        id="dead_1", service="orchestrator", subject="s", reason="invalid", at=AT
    ),
    "missing": delivery.Missing(message_ids=("submit:1", "submit:2")),
    "missing-reply": delivery.MissingReply(missing=("submit:2",)),
    "ledger-line": ledger.LedgerLine(
        transaction_id="tx_1",
        attempt_id=ATTEMPT,
        revision=0,
        tenant=TENANT,
        task_id=TASK,
        vendor="sandbox-openai",
        model="sandbox-small",
        usage=USAGE,
        source=usage.UsageSource.VENDOR,
        end_state=usage.EndState.COMPLETED,
        account=ledger.Account.TENANT_COGS,
        pico_usd=1_234_500_000,
        price_digest=DIGEST,
        occurred_at=AT,
        recorded_at=AT,
    ),
    "task-cost": ledger.TaskCost(task_id=TASK, pico_usd=1_234_500_000, attempts=1),
    "model-page": models.ModelPage(
        models=(
            models.ModelInfo(
                id="smart",
                vendor="sandbox-openai",
                model="sandbox-large",
                is_alias=True,
            ),
        )
    ),
    "list-vendors": vendors.ListVendors(tenant=TENANT),
    "vendor-page": VENDOR_PAGE,
    "check-vendor": vendors.CheckVendor(tenant=TENANT, vendor="openai"),
    "vendor-check": vendors.VendorCheck(
        vendor="openai",
        reach=vendors.Reach.KEY_REFUSED,
        detail="openai refused your own key for it (401): put a new one",
        http_status=401,
        took_s=0.21,
    ),
    "put-credential": credentials.PutCredential.model_validate(
        {"tenant": TENANT, "vendor": "openai", "key": "sk-sample-0123456789"}
    ),
    "remove-credential": credentials.RemoveCredential(tenant=TENANT, vendor="openai"),
    "list-credentials": credentials.ListCredentials(tenant=TENANT),
    "credential-page": credentials.CredentialPage(
        credentials=(
            credentials.CredentialInfo(
                vendor="openai", created_at=AT, fingerprint="0123456789ab", last4="6789"
            ),
        )
    ),
    "tenants": tenants.Tenants(
        tenants=(
            tenants.Tenant(tenant=TENANT, nats_password_hash="$2b$04$x", created_at=AT),
        )
    ),
}
