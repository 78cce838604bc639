"""An attempt before its call: admitted by the board, then committed."""

from dataclasses import dataclass
from datetime import datetime

from ai_broker.domain import attempt as attempts
from ai_broker.domain import estimation, routing
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Held
from ai_broker.handlers import books
from ai_broker.handlers.board import Board
from ai_broker.handlers.call import Job, Opened, Route
from ai_broker.handlers.line import Ticket
from ai_broker.ports import Deps, Work
from contracts.completions import CompletionRequest
from contracts.usage import TokenUsage
from determinism import IdSource


@dataclass(frozen=True)
class Admitted:
    """A call that the board lets through; its ticket must be ended."""

    place: int
    """Its candidate's, on the route."""
    candidate: Candidate
    attempt_id: str
    ticket: Ticket


def admit(route: Route, place: int, board: Board, ids: IdSource) -> Admitted:
    """Let a call through."""
    candidate = route.candidates[place]
    ticket = board.admit(candidate, route.tokens)
    return Admitted(place, candidate, ids.new("attempt"), ticket)


def admit_first(
    route: Route, deadline: datetime, board: Board, deps: Deps
) -> Admitted | None:
    """Admit the first call; None when it has to wait, or nobody can be called."""
    candidates, now = route.candidates, deps.clock.now()
    outlooks = board.outlooks(candidates, route.tokens)
    move = routing.next_move(candidates, outlooks, (), now, deadline, delivered=False)
    if isinstance(move, routing.GiveUp) or move.delay_s > 0:
        return None
    return admit(route, move.candidate, board, deps.ids)


def open_admitted(
    work: Work,
    request: CompletionRequest,
    held: Held,
    admitted: Admitted,
    deadline: datetime,
    now: datetime,
) -> Opened:
    """Insert the attempt of an admitted call."""
    opened = books.open_attempt(
        work,
        request,
        admitted.candidate,
        held,
        attempt_id=admitted.attempt_id,
        deadline=deadline,
        now=now,
    )
    return Opened(opened, admitted.place, admitted.ticket)


async def dispatch(job: Job, place: int) -> Opened | None:
    """
    Admit and open an attempt at a candidate; None when the claim was lost.

    Raises:
        TransientFault: The store did not take it; nothing was dispatched.
    """
    deps, now = job.deps, job.deps.clock.now()
    admitted = admit(job.route, place, job.board, deps.ids)

    def transaction(work: Work) -> Opened | None:
        if not books.still_mine(work, job.held):
            return None
        return open_admitted(work, job.request, job.held, admitted, job.deadline, now)

    opened = None
    try:
        opened = await deps.store.run(transaction)
    finally:
        if opened is None:
            admitted.ticket.release()
    return opened


def worst_cost(
    request: CompletionRequest, candidate: Candidate, deps: Deps, now: datetime
) -> int | None:
    """Return what a call may cost at its worst, in pico-USD; None if unknown."""
    if deps.prices is None:
        return None
    usage = TokenUsage(
        input_tokens=estimation.input_tokens(request),
        output_tokens=request.output_tokens_max or candidate.output_tokens_default,
    )
    record = attempts.dispatch(
        request, candidate, attempt_id="quote", number=1, assumed=usage, now=now
    )
    return deps.prices.known(record)
