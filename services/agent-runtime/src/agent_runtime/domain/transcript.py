"""What an employee has said and done so far; only ever appended to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final

from contracts.completions import (
    AttemptSummary,
    Completion,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from contracts.turns import ToolCallRecord, TurnRecord

TEXT_CHARS_MAX: Final = 4_000
RESULT_CHARS_MAX: Final = 2_000
RECORDS_BYTES_MAX: Final = 393_216
SHORTER: Final = (1, 4, 20, 200)
"""What texts are divided by, until all records fit into one message."""
ATTEMPTS_MAX: Final = 500
"""Of those that one message tells of; the ledger has them all."""


@dataclass(frozen=True)
class Turn:
    """One model answer and, once they are known, its tools' results."""

    number: int
    """From 1."""
    completion: Completion
    started_at: datetime
    """When the model was asked."""
    answered_at: datetime
    """When its answer came."""
    results: tuple[ToolResultPart, ...] = ()
    """One for each call, once performed."""
    performed_at: datetime | None = None
    """When the last tool answered."""

    @property
    def calls(self) -> tuple[ToolCallPart, ...]:
        """Return the tools that the model asked for."""
        parts = self.completion.parts
        return tuple(part for part in parts if isinstance(part, ToolCallPart))

    @property
    def text(self) -> str:
        """Return what the model said."""
        parts = self.completion.parts
        return "".join(part.text for part in parts if isinstance(part, TextPart))

    @property
    def refusal(self) -> str | None:
        """Return the vendor's words when it declined to answer."""
        parts = self.completion.parts
        return next(
            (each.text for each in parts if isinstance(each, RefusalPart)), None
        )

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing of the turn is still to be done."""
        return self.performed_at is not None or not self.calls

    def performed(self, results: Sequence[ToolResultPart], now: datetime) -> "Turn":
        """Return the turn with its tools' results."""
        return replace(self, results=tuple(results), performed_at=now)


Transcript = tuple[Turn, ...]


def record(turn: Turn, shorter: int = 1) -> TurnRecord:
    """Return the turn as history keeps it; long texts are cut, and more by divisor."""
    results = {each.call_id: each for each in turn.results}
    return TurnRecord(
        turn=turn.number,
        text=turn.text[: TEXT_CHARS_MAX // shorter],
        model=turn.completion.model,
        vendor=turn.completion.vendor,
        finish_reason=turn.completion.finish_reason,
        tool_calls=tuple(
            _call_record(call, results.get(call.call_id), shorter)
            for call in turn.calls
        ),
        attempts=turn.completion.attempts,
        started_at=turn.started_at,
        finished_at=turn.performed_at or turn.answered_at,
    )


def records(transcript: Transcript) -> tuple[TurnRecord, ...]:
    """Return all turns, cut so far that one message can carry them."""
    made: tuple[TurnRecord, ...] = ()
    for shorter in SHORTER:
        made = tuple(record(turn, shorter) for turn in transcript)
        if sum(len(each.encode()) for each in made) <= RECORDS_BYTES_MAX:
            break
    return made


def unclaimed(
    transcript: Transcript, attempts: Sequence[AttemptSummary]
) -> tuple[AttemptSummary, ...]:
    """Return those attempts, once each, that no turn accounts for; a bounded lot."""
    known = {
        attempt.attempt_id
        for turn in transcript
        for attempt in turn.completion.attempts
    }
    by_id = {attempt.attempt_id: attempt for attempt in attempts}
    rest = (each for key, each in by_id.items() if key not in known)
    return tuple(islice(rest, ATTEMPTS_MAX))


def tokens_used(transcript: Transcript) -> int:
    """Return the tokens of all turns."""
    return sum(turn.completion.usage.total for turn in transcript)


def _call_record(
    call: ToolCallPart, result: ToolResultPart | None, shorter: int
) -> ToolCallRecord:
    content = () if result is None else result.content
    text = "".join(part.text for part in content if isinstance(part, TextPart))
    arguments = call.arguments
    if shorter > 1:
        arguments = arguments[: TEXT_CHARS_MAX // shorter]
    return ToolCallRecord(
        call_id=call.call_id,
        name=call.name,
        arguments=arguments,
        result=text[: RESULT_CHARS_MAX // shorter],
        is_error=result is not None and result.is_error,
    )
