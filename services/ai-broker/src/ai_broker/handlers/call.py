"""One call of one vendor: its events forwarded, its claim kept alive, its end."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar, assert_never

import telemetry
from ai_broker.domain import limits, quality, settlement
from ai_broker.domain.answer import delta_of
from ai_broker.domain.attempt import Attempt, Settlement
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Held
from ai_broker.domain.embedding import EmbeddingQuestion
from ai_broker.domain.guard.restoring import Restorations, Restoring
from ai_broker.domain.settlement import Heard
from ai_broker.domain.vendor import (
    Declined,
    Done,
    Failure,
    FailureKind,
    Piece,
    Prepared,
    Reasoning,
    Started,
    Text,
    ToolCallPiece,
    UsageSeen,
    Vectors,
    VendorError,
    VendorEvent,
)
from ai_broker.handlers.caller import Caller
from ai_broker.handlers.desk import Running
from ai_broker.ports import Deps
from contracts.completions import CompletionRequest
from contracts.usage import EndState
from faults import TransientFault
from telemetry import SpanKind, names

T = TypeVar("T")

log = telemetry.get_logger()


@dataclass(frozen=True)
class Choice:
    """A candidate that can do what is asked, with the request in its own form."""

    candidate: Candidate
    prepared: Prepared
    restorations: Restorations = field(default_factory=Restorations.none)
    """What the guard took out of the body, and the answer gets back."""


@dataclass(frozen=True)
class Job:
    """A claimed completion on its way to an answer."""

    request: CompletionRequest
    choices: tuple[Choice, ...]
    held: Held
    running: Running
    caller: Caller
    deadline: datetime
    deps: Deps


@dataclass(frozen=True)
class Answered:
    """The vendor came to its proper end."""

    done: Done
    heard: Heard
    dropped: tuple[str, ...] = ()
    """Request fields that this vendor was not sent."""


@dataclass(frozen=True)
class Broken:
    """The vendor failed."""

    failure: Failure


@dataclass(frozen=True)
class Expired:
    """The deadline passed."""


@dataclass(frozen=True)
class Cancelled:
    """The caller gave up."""


Ending = Answered | Broken | Expired | Cancelled


async def call(job: Job, attempt: Attempt, choice: Choice) -> tuple[Ending, Settlement]:
    """Call the vendor; return how it ended and what it consumed."""
    clock, record = job.deps.clock, attempt.record
    began_s = clock.monotonic()
    heard = Heard()
    is_embedding = isinstance(job.request, EmbeddingQuestion)
    operation = "embeddings" if is_embedding else "chat"
    attributes: telemetry.Attributes = {
        names.GEN_AI_OPERATION: operation,
        names.GEN_AI_PROVIDER: record.vendor,
        names.GEN_AI_REQUEST_MODEL: record.model,
        names.DE_ATTEMPT: record.attempt_id,
        names.DE_COMPLETION: record.completion_id,
    }
    name = f"{operation} {record.model}"
    with telemetry.span(name, attributes, kind=SpanKind.CLIENT):
        consumed = await watched(job, _consume(job, attempt, choice, heard, began_s))
        ending = Cancelled() if consumed is None else consumed
        settled = _settle(job.request, heard, ending)
        _measure(attempt, settled, clock.monotonic() - began_s)
    return ending, settled


async def watched(job: Job, work: Coroutine[Any, Any, T]) -> T | None:
    """Await under a kept claim; None when the caller cancels meanwhile."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        heart = group.create_task(_keep_claim(job))
        with job.running.abortable(task.cancel):
            await asyncio.wait((task,))
        heart.cancel()
    return None if task.cancelled() else task.result()


async def _consume(
    job: Job, attempt: Attempt, choice: Choice, heard: Heard, began_s: float
) -> Answered | Broken | Expired:
    left_s = max(0.0, (attempt.deadline - job.deps.clock.now()).total_seconds())
    vendor = job.deps.vendors[choice.candidate.vendor]
    is_embedding = isinstance(job.request, EmbeddingQuestion)
    ask = vendor.embed if is_embedding else vendor.complete
    attempt_id = attempt.record.attempt_id
    limit = asyncio.timeout(left_s)
    try:
        async with (
            limit,
            aclosing(ask(choice.prepared.body, attempt_id, left_s)) as events,
        ):
            hearing = Restoring(choice.restorations)
            done = await _listen(job, attempt, events, heard, hearing, began_s)
    except VendorError as error:
        return Broken(error.failure)
    except TimeoutError:
        if limit.expired():
            return Expired()
        raise
    # Supervised boundary: a vendor can send what no adapter has thought of, and its
    # attempt needs an end and a ledger line all the same. The error's text may quote
    # the answer, so only its kind and place are logged.
    except Exception as error:  # noqa: BLE001
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error(  # noqa: TRY400
            "vendor_answer_unreadable",
            attempt_id=attempt_id,
            error=type(error).__name__,
            place=f"{place.filename}:{place.lineno}",
        )
        detail = f"{choice.candidate.vendor} sent what cannot be read; see the log"
        return Broken(Failure(FailureKind.MALFORMED, detail))
    if done is not None:
        return Answered(done, heard, choice.prepared.dropped)
    detail = f"{choice.candidate.vendor} ended its stream without an end marker"
    return Broken(Failure(FailureKind.CUT, detail))


async def _listen(
    job: Job,
    attempt: Attempt,
    events: AsyncIterator[VendorEvent],
    heard: Heard,
    hearing: Restoring,
    began_s: float,
) -> Done | None:
    """Note and forward what the vendor says; None when it just stops."""
    weight_max = limits.answer_weight_max(job.request)

    async def take(pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if heard.answer.empty:
                _first_token(job, attempt, began_s)
            heard.answer.add(piece)
            if heard.answer.weight > weight_max:
                raise VendorError(_endless(attempt.record.vendor, weight_max))
            await _forward(job, piece)

    async for event in events:
        match event:
            case Started() | UsageSeen() | Vectors():
                heard.note(event)
            case Done():
                await take(hearing.end())
                return hearing.ended(event)
            case Text() | Reasoning() | ToolCallPiece() | Declined():
                await take(hearing.feed(event))
            case _:
                assert_never(event)
    return None


def _endless(vendor: str, weight_max: int) -> Failure:
    detail = (
        f"{vendor} did not end its answer within {weight_max:,} characters: ask for "
        "less, or set output_tokens_max"
    )
    return Failure(FailureKind.ENDLESS, detail)


async def _forward(job: Job, piece: Piece) -> None:
    delta = delta_of(piece)
    if delta is not None:
        job.running.publish(delta)
        if job.caller.wants_deltas:
            job.running.delivered = True
            await job.caller.delta(delta)


async def _keep_claim(job: Job) -> None:
    """Renew the lease until cancelled; a lost one shows at the next commit."""
    deps, held = job.deps, job.held
    while True:
        await deps.clock.sleep(deps.limits.heartbeat_s)
        until = deps.clock.now() + timedelta(seconds=deps.limits.lease_s)
        try:
            await deps.store.run(lambda work, until=until: work.renew(held, until))
        except TransientFault as fault:
            log.warning(
                "lease_not_renewed",
                completion_id=held.completion_id,
                detail=fault.detail,
            )


def _settle(request: CompletionRequest, heard: Heard, ending: Ending) -> Settlement:
    match ending:
        case Answered(done):
            return settlement.completed(request, heard, done)
        case Broken(failure):
            return settlement.failed(request, heard, failure)
        case Expired():
            return settlement.stopped(request, heard, EndState.TIMED_OUT)
        case Cancelled():
            return settlement.stopped(request, heard, EndState.CANCELLED)
        case _:
            assert_never(ending)


def _first_token(job: Job, attempt: Attempt, began_s: float) -> None:
    record = attempt.record
    telemetry.metrics.time_to_first_token_seconds.record(
        job.deps.clock.monotonic() - began_s, vendor=record.vendor, model=record.model
    )


def _measure(attempt: Attempt, settled: Settlement, duration_s: float) -> None:
    record, usage = attempt.record, settled.usage
    labels = {"vendor": record.vendor, "model": record.model}
    outcome = settled.end_state.value
    metrics = telemetry.metrics
    metrics.ai_requests_total.add(1, **labels, outcome=outcome)
    metrics.ai_request_duration_seconds.record(duration_s, **labels, outcome=outcome)
    for part, tokens in usage.parts().items():
        if tokens:
            metrics.ai_tokens_used_total.add(tokens, **labels, part=part)
    if settled.quality is not None:
        for signal in quality.flagged(settled.quality):
            metrics.ai_answer_quality_total.add(1, **labels, signal=signal)
    outputs = usage.output_tokens + usage.reasoning_tokens + usage.output_audio_tokens
    telemetry.set_attributes(
        {
            names.GEN_AI_INPUT_TOKENS: usage.total - outputs,
            names.GEN_AI_OUTPUT_TOKENS: outputs,
            names.GEN_AI_RESPONSE_MODEL: settled.model or record.model,
            names.DE_OUTCOME: outcome,
        }
    )
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
        duration_s=round(duration_s, 4),
    )
