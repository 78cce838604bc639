"""
Use case: answer a completion; equal questions at the same moment are asked once.

Only questions that take a kept answer, and only within this process: the first one is
asked, the others wait for its end and then look for the kept answer as ever. So they
come to it by the one way there is, under their own ids, and where there is none
(it failed, or may not be given again) each asks for itself.
"""

from contextlib import suppress

from ai_broker.domain import cache
from ai_broker.handlers.complete import complete
from ai_broker.handlers.desk import Desk
from ai_broker.handlers.running import Flight
from ai_broker.ports import Deps
from contracts.completions import CompletionRequest
from determinism import within
from faults import DeadlineExceeded
from messaging.subscriptions import FrameSink


async def complete_once(
    request: CompletionRequest, sink: FrameSink, desk: Desk
) -> None:
    """Answer with frames, after an equal question that is under way here."""
    if request.cache_ttl_s is None:
        await complete(request, sink, desk)
        return
    key = (request.tenant, cache.question_of(request))
    flight = desk.flights.get(key)
    # The same completion asked again joins itself, and hears it as it comes.
    if flight is not None and flight.completion_id != request.completion_id:
        await _wait(flight, request, desk.deps)
    if key in desk.flights:
        await complete(request, sink, desk)
        return
    own = desk.flights[key] = Flight(request.completion_id)
    try:
        await complete(request, sink, desk)
    finally:
        del desk.flights[key]
        own.over.set()


async def _wait(flight: Flight, request: CompletionRequest, deps: Deps) -> None:
    """Wait for its end, but leave half of the time to ask for oneself."""
    left_s = (request.deadline - deps.clock.now()).total_seconds()
    with suppress(DeadlineExceeded):
        await within(max(0.0, left_s / 2), flight.over.wait(), "wait for an equal one")
