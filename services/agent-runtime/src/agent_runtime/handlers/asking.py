"""
Ask the model for one turn, until it answers, refuses, or time is up.

Every repeat carries the same completion id: ai-broker joins it to the call under
way, or gives the saved answer. So a repeat is free where an answer was stored.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import telemetry
from agent_runtime.domain.step import TRANSIENT, known_code
from agent_runtime.handlers.live import LiveText
from agent_runtime.ports import Deps, Running
from contracts.completions import AttemptSummary, Completion, CompletionRequest
from contracts.frames import Failed, Finished, TextDelta
from contracts.problems import Code, ErrorEnvelope, Problem, problem
from determinism import backoff_s, within
from faults import DeadlineExceeded, Fault, TransientFault
from messaging.bus import FrameStream
from messaging.refusals import Refused

log = telemetry.get_logger()


@dataclass(frozen=True)
class Answered:
    """The model's whole answer."""

    completion: Completion


@dataclass(frozen=True)
class Unanswered:
    """No answer, and none will come: for good, or because we were told to stop."""

    problem: Problem


@dataclass(frozen=True)
class _Missed:
    """One call without an answer."""

    envelope: ErrorEnvelope
    attempts: tuple[AttemptSummary, ...] = ()
    """Vendor calls that were made in vain and are on the ledger."""


async def ask(
    request: CompletionRequest, running: Running, turn: int, deps: Deps
) -> Answered | Unanswered:
    """
    Ask until there is an answer.

    Args:
        request: Its deadline is the step's.
        running: The step; when it is cancelled, so is the call.
        turn: The turn's number, for watchers.
        deps: Ports.
    """
    tries = 0
    while not running.cancelled.is_set():
        tries += 1
        outcome = await _ask_once(_bounded(request, deps), running, turn, deps)
        if isinstance(outcome, Completion):
            return Answered(outcome)
        await _note(outcome.attempts, running, deps)
        problem_met = outcome.envelope.problem
        if running.cancelled.is_set():
            break
        if not outcome.envelope.retryable:
            return Unanswered(problem_met)
        wait_s = _wait_s(outcome.envelope, tries, deps)
        needed = timedelta(seconds=wait_s + deps.pace.ask_min_s)
        if deps.clock.now() + needed >= request.deadline:
            return Unanswered(_given_up(problem_met, tries))
        log.info(
            "model_asked_again", step_id=running.claimed.step.step_id, turn=turn,
            tries=tries, code=problem_met.code.value,
        )  # fmt: skip
        await _pause(wait_s, running)
    return Unanswered(problem(Code.CANCELLED, "The step was cancelled."))


async def _note(
    attempts: tuple[AttemptSummary, ...], running: Running, deps: Deps
) -> None:
    """Keep what was called in vain until the step's end tells of its cost."""
    if attempts:
        step_id = running.claimed.step.step_id
        await deps.store.run(lambda work: work.steps.note_attempts(step_id, attempts))


def _bounded(request: CompletionRequest, deps: Deps) -> CompletionRequest:
    """Return the request with the deadline of one call."""
    longest = deps.clock.now() + timedelta(seconds=deps.pace.call_s)
    if request.deadline <= longest:
        return request
    return request.model_copy(update={"deadline": longest})


async def _ask_once(
    request: CompletionRequest, running: Running, turn: int, deps: Deps
) -> Completion | _Missed:
    live = LiveText(running, turn, deps)
    showing = running.group.create_task(live.run())
    try:
        async with (
            asyncio.timeout(None) as limit,
            deps.model.complete(request) as answer,
        ):
            hanging_up = running.group.create_task(
                _hang_up(answer, limit, running, deps)
            )
            try:
                outcome = await _read(answer, live)
            finally:
                hanging_up.cancel()
        await live.flush()
    except TimeoutError:
        # Only _hang_up moves the limit: the call was cancelled and stayed silent.
        return _missed(Code.CANCELLED, "The step was cancelled.", retryable=False)
    except Refused as refusal:
        return _Missed(refusal.envelope)
    except TransientFault as fault:
        return _missed_by(fault)
    except Fault as fault:
        return _missed(known_code(fault.code), fault.detail, retryable=False)
    finally:
        showing.cancel()
    return outcome


async def _read(answer: FrameStream, live: LiveText) -> Completion | _Missed:
    async for frame in answer:
        if isinstance(frame, Finished):
            return frame.completion
        if isinstance(frame, Failed):
            return _Missed(frame.error, frame.attempts)
        if isinstance(frame, TextDelta):
            live.add(frame.text)
    # The bus promises one of the two ends; without one the stream was cut.
    return _missed(Code.STREAM_CUT, "The answer ended without its end.", retryable=True)


async def _hang_up(
    answer: FrameStream, limit: asyncio.Timeout, running: Running, deps: Deps
) -> None:
    """When the step is cancelled, cancel the call and give it a moment to end."""
    await running.cancelled.wait()
    with suppress(Fault):
        # A cancel that gets lost costs money, not correctness.
        await within(deps.pace.cancel_s, answer.cancel(), "cancel the model call")
    await deps.clock.sleep(deps.pace.cancel_s)
    limit.reschedule(0.0)  # a time that has passed: end the wait now


async def _pause(wait_s: float, running: Running) -> None:
    """Wait, but not longer than until the step is cancelled."""
    with suppress(DeadlineExceeded):
        await within(wait_s, running.cancelled.wait(), "wait for a cancel")


def _wait_s(envelope: ErrorEnvelope, tries: int, deps: Deps) -> float:
    pace = deps.pace
    own = backoff_s(
        tries,
        first_s=pace.retry_first_s,
        cap_s=pace.retry_cap_s,
        draw=deps.ids.uniform(),
    )
    return max(own, envelope.retry_after_s or 0.0)


def _missed_by(fault: TransientFault) -> _Missed:
    """
    Tell a fault that may pass from a refusal that came as one.

    The bus raises an error reply as a transient fault with the reply's code; codes
    that a repeat cannot change are final. A fault with a code of its own may pass.
    """
    code = known_code(fault.code)
    envelope = ErrorEnvelope(
        problem=problem(code, fault.detail),
        retryable=code in TRANSIENT,
        retry_after_s=fault.retry_after_s,
    )
    return _Missed(envelope)


def _missed(code: Code, detail: str, *, retryable: bool) -> _Missed:
    return _Missed(ErrorEnvelope(problem=problem(code, detail), retryable=retryable))


def _given_up(last: Problem, tries: int) -> Problem:
    if last.code is Code.DEADLINE:
        detail = f"The model was still answering when time was up: {last.detail}"
        return problem(Code.DEADLINE, detail)
    detail = (
        f"No model answered in time, asked {tries} times; the last reason: "
        f"{last.code}: {last.detail} Look at the vendors' health, or allow more time."
    )
    return problem(Code.VENDOR_UNAVAILABLE, detail)
