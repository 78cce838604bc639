"""What a call consumed, by how it ended and by what was heard of it."""

from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from pydantic_core import to_json

from ai_broker.domain import estimation, quality
from ai_broker.domain.answer import Answer
from ai_broker.domain.attempt import Settlement
from ai_broker.domain.catalogue import Abort
from ai_broker.domain.vendor import (
    Done,
    Failure,
    FailureKind,
    Started,
    UsageSeen,
    Vectors,
)
from contracts.completions import CompletionRequest
from contracts.message import JsonObject
from contracts.usage import EndState, TokenUsage, UsageSource

RAW_BYTES_MAX: Final = 16 * 1024
"""What is kept of a vendor's own words on usage; real ones take a few hundred."""
TEXT_MAX: Final = 256
"""Characters of a name that a vendor gave."""
END_STATES: Final = {
    FailureKind.REFUSED: EndState.FAILED,
    FailureKind.UNREACHED: EndState.FAILED,
    FailureKind.REPORTED: EndState.FAILED,
    FailureKind.LOST: EndState.CUT,
    FailureKind.CUT: EndState.CUT,
    FailureKind.MALFORMED: EndState.CUT,
    FailureKind.ENDLESS: EndState.CUT,
    FailureKind.SILENT: EndState.TIMED_OUT,
}


@dataclass
class Heard:
    """What has been heard of a running call."""

    answer: Answer = field(default_factory=Answer)
    started: Started | None = None
    usage: UsageSeen | None = None

    def note(self, event: Started | UsageSeen | Vectors) -> None:
        """Note what is not told on while the call runs."""
        match event:
            case Started():
                self.started = event
            case UsageSeen():
                self.usage = event
            case Vectors():
                self.answer.add_vectors(event)
            case _:
                assert_never(event)


def completed(request: CompletionRequest, heard: Heard, done: Done) -> Settlement:
    """Settle a call that came to its proper end."""
    usage, source = _consumed(request, heard, ran_on=False)
    return Settlement(
        usage=usage,
        source=source,
        end_state=EndState.COMPLETED,
        model=done.model[:TEXT_MAX] or None,
        service_tier=done.service_tier and done.service_tier[:TEXT_MAX],
        finish_reason=done.finish_reason.value,
        http_status=heard.started.http_status if heard.started else None,
        vendor_request_id=heard.started.request_id if heard.started else None,
        raw_usage=_kept(heard.usage),
        quality=quality.signals(request, heard.answer.parts(), done.finish_reason),
    )


def failed(request: CompletionRequest, heard: Heard, failure: Failure) -> Settlement:
    """
    Settle a call that failed.

    A refusal by status consumed nothing, and the vendor says so by its status; a
    request that never left consumed nothing either. Everything else is estimated.
    """
    if failure.kind is FailureKind.REFUSED and heard.started is None:
        usage, source = TokenUsage(), UsageSource.VENDOR
    elif failure.kind is FailureKind.UNREACHED and heard.started is None:
        usage, source = TokenUsage(), UsageSource.ESTIMATED
    else:
        ran_on = failure.kind in {FailureKind.SILENT, FailureKind.LOST}
        usage, source = _consumed(request, heard, ran_on=ran_on)
    started = heard.started
    return Settlement(
        usage=usage,
        source=source,
        end_state=END_STATES[failure.kind],
        http_status=started.http_status if started else failure.status,
        vendor_request_id=failure.request_id
        or (started.request_id if started else None),
        raw_usage=_kept(heard.usage),
    )


def stopped(
    request: CompletionRequest,
    heard: Heard,
    end_state: EndState,
    policy: Abort = Abort.ESTIMATE,
) -> Settlement:
    """
    Settle a call that we ended: its deadline passed or nobody wants it any more.

    A vendor that bills nothing of a call that was hung up has said so beforehand.
    """
    if policy is Abort.NO_BILL:
        usage, source = TokenUsage(), UsageSource.VENDOR
    else:
        ran_on = end_state is EndState.TIMED_OUT
        usage, source = _consumed(request, heard, ran_on=ran_on)
    return Settlement(
        usage=usage,
        source=source,
        end_state=end_state,
        http_status=heard.started.http_status if heard.started else None,
        vendor_request_id=heard.started.request_id if heard.started else None,
        raw_usage=_kept(heard.usage),
    )


def unsent(end_state: EndState) -> Settlement:
    """Settle a call that was given up before it was made."""
    return Settlement(
        usage=TokenUsage(), source=UsageSource.ESTIMATED, end_state=end_state
    )


def unwanted(settlement: Settlement, end_state: EndState) -> Settlement:
    """Settle a call that was read on after it was given up."""
    return replace(settlement, end_state=end_state, finish_reason=None, quality=None)


def _kept(seen: UsageSeen | None) -> JsonObject | None:
    """Return what a vendor said of its usage; of far too much only how much it was."""
    if seen is None:
        return None
    said_bytes = len(to_json(seen.raw))
    return seen.raw if said_bytes <= RAW_BYTES_MAX else {"omitted_bytes": said_bytes}


def _consumed(
    request: CompletionRequest, heard: Heard, *, ran_on: bool
) -> tuple[TokenUsage, UsageSource]:
    if heard.usage is not None and heard.usage.final:
        return heard.usage.usage, UsageSource.VENDOR
    if ran_on and heard.answer.empty:
        # The vendor may have written all of an answer that never reached us.
        return estimation.unheard(request), UsageSource.ESTIMATED
    arrived = estimation.heard(request, heard.answer.parts())
    if heard.usage is not None:
        arrived = estimation.completed_from(heard.usage.usage, arrived)
    return arrived, UsageSource.ESTIMATED
