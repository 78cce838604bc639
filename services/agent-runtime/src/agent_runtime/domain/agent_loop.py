"""
The loop of an employee, as one pure question: what is to be done next.

    nothing said yet ───────────────► CallModel
    the model asked for tools ──────► CallTools, then CallModel
    it paused ──────────────────────► CallModel
    it answered, and the answer holds ► Finish
    it answered wrongly ────────────► CallModel (it is told why, twice), then Fail
    it refused, or was cut ─────────► Fail

Limits are looked at before each call of the model, never to throw away an answer
that is already paid for. The transcript alone is the state: whoever loads it after a
crash comes to the same decision.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from agent_runtime.domain.schema import OUTPUT_BYTES_MAX, OutputInvalid, parse_output
from agent_runtime.domain.transcript import Transcript, Turn, tokens_used
from contracts.completions import FinishReason, ToolCallPart
from contracts.employees import Employee
from contracts.message import Json
from contracts.problems import Code, Problem, problem
from contracts.steps import StepRequested

CORRECTIONS_MAX: Final = 2


@dataclass(frozen=True)
class Limits:
    """What is left to one step."""

    turns_max: int
    tokens_max: int
    deadline: datetime


@dataclass(frozen=True)
class CallModel:
    """Ask the model for the next turn."""

    turn: int
    output_tokens_max: int
    """The employee's limit, or what is left of the step's."""


@dataclass(frozen=True)
class CallTools:
    """Perform what the last turn asks for."""

    turn: int
    calls: tuple[ToolCallPart, ...]


@dataclass(frozen=True)
class Finish:
    """The step is completed."""

    output: Json


@dataclass(frozen=True)
class Fail:
    """The step has failed."""

    problem: Problem


Action = CallModel | CallTools | Finish | Fail


@dataclass(frozen=True)
class Correction:
    """An answer does not do; the model is told so."""

    detail: str


def limits_of(employee: Employee, brief: StepRequested, began_at: datetime) -> Limits:
    """Return the limits of a step: the employee's, and not beyond the deadline."""
    limits = employee.limits
    wall_time_end = began_at + timedelta(seconds=limits.wall_time_s)
    return Limits(
        limits.turns_max, limits.tokens_max, min(brief.deadline, wall_time_end)
    )


def next_action(
    transcript: Transcript, employee: Employee, limits: Limits, now: datetime
) -> Action:
    """Decide what the employee does next."""
    if not transcript:
        return _ask(transcript, employee, limits, now)
    last = transcript[-1]
    if last.refusal is not None and not last.text and not last.calls:
        return _refused(last)
    match last.completion.finish_reason:
        case FinishReason.REFUSAL | FinishReason.CONTENT_FILTER:
            return _refused(last)
        case FinishReason.LENGTH:
            return _cut(last)
        case FinishReason.STOP | FinishReason.TOOL_CALLS | FinishReason.PAUSE:
            pass
        case _:
            assert_never(last.completion.finish_reason)
    if not last.is_whole:
        return CallTools(last.number, last.calls)
    if not is_answer(last):
        return _ask(transcript, employee, limits, now)
    return _close(transcript, employee, limits, now)


def judged(turn: Turn, employee: Employee) -> Finish | Correction:
    """Hold an answer to what was asked for; wrong ones come with the reason."""
    output: Json = turn.text
    if not turn.text.strip():
        return Correction("the answer is empty")
    if len(turn.text.encode(errors="replace")) > OUTPUT_BYTES_MAX:
        return Correction(f"the answer is longer than {OUTPUT_BYTES_MAX} bytes")
    if employee.output_schema is not None:
        try:
            output = parse_output(turn.text, employee.output_schema)
        except OutputInvalid as invalid:
            return Correction(str(invalid))
    return Finish(output)


def is_answer(turn: Turn) -> bool:
    """Tell whether the turn was meant as the final answer."""
    is_paused = turn.completion.finish_reason is FinishReason.PAUSE
    return not turn.calls and not is_paused


def _close(
    transcript: Transcript, employee: Employee, limits: Limits, now: datetime
) -> Action:
    """Finish with the answer that was given, or have it corrected."""
    verdict = judged(transcript[-1], employee)
    if isinstance(verdict, Finish):
        return verdict
    if _answers(transcript) > CORRECTIONS_MAX:
        detail = f"The answer was wrong {CORRECTIONS_MAX + 1} times: {verdict.detail}"
        return Fail(problem(Code.OUTPUT_INVALID, detail))
    return _ask(transcript, employee, limits, now)


def _ask(
    transcript: Transcript, employee: Employee, limits: Limits, now: datetime
) -> CallModel | Fail:
    used = tokens_used(transcript)
    if now >= limits.deadline:
        detail = f"Not finished by {limits.deadline.isoformat()}: allow more time."
        return Fail(problem(Code.DEADLINE, detail))
    if len(transcript) >= limits.turns_max:
        detail = (
            f"Not finished after {limits.turns_max} turns: simplify the goal or raise "
            "the employee's limits.turns_max."
        )
        return Fail(problem(Code.TURN_LIMIT, detail))
    if used >= limits.tokens_max:
        detail = (
            f"Used {used} tokens of {limits.tokens_max}: shorten the documents or "
            "raise the employee's limits.tokens_max."
        )
        return Fail(problem(Code.TOKEN_LIMIT, detail))
    allowed = min(employee.model.output_tokens_max, limits.tokens_max - used)
    return CallModel(len(transcript) + 1, allowed)


def _answers(transcript: Transcript) -> int:
    return sum(1 for turn in transcript if is_answer(turn))


def _refused(turn: Turn) -> Fail:
    said = turn.refusal or turn.text or "no reason given"
    detail = f"{turn.completion.vendor} declined to answer: {said[:500]}"
    return Fail(problem(Code.VENDOR_REFUSED, detail))


def _cut(turn: Turn) -> Fail:
    used = turn.completion.usage
    tokens = used.output_tokens + used.reasoning_tokens
    detail = (
        f"Turn {turn.number} was cut after {tokens} tokens: raise the employee's "
        "model.output_tokens_max or limits.tokens_max."
    )
    return Fail(problem(Code.TOKEN_LIMIT, detail))
