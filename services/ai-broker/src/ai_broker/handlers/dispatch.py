"""An attempt before its call: admitted by the board, then committed."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from ai_broker.domain import attempt as attempts
from ai_broker.domain import estimation, routing
from ai_broker.domain.attempt import Attempt
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Held
from ai_broker.handlers import books, funding
from ai_broker.handlers.board import Board
from ai_broker.handlers.call import Choice, Job, Opened, Route
from ai_broker.handlers.line import Ticket
from ai_broker.handlers.pot import Denied, Funds
from ai_broker.handlers.purse import Purse
from ai_broker.ports import Deps
from ai_broker.ports.store import Work
from contracts.completions import CompletionRequest
from contracts.problems import Code
from contracts.usage import TokenUsage


@dataclass(frozen=True)
class Admitted:
    """A call that board and purse let through; ticket and funds must be ended."""

    place: int
    """Its candidate's, on the route."""
    choice: Choice
    attempt_id: str
    ticket: Ticket
    funds: Funds


def admit_first(
    route: Route, deadline: datetime, board: Board, purse: Purse | None, deps: Deps
) -> Admitted | None:
    """Admit the first call; None when it has to wait, or nobody can be called."""
    candidates, now = route.candidates, deps.clock.now()
    outlooks = board.outlooks(candidates, route.tokens)
    move = routing.next_move(candidates, outlooks, (), now, deadline, delivered=False)
    if isinstance(move, routing.GiveUp) or move.delay_s > 0:
        return None
    attempt_id, place = deps.ids.new("attempt"), move.candidate
    funds = funding.take(purse, attempt_id, route.choices[place])
    if funds is None:
        return None
    return _admit(route, place, board, deps, attempt_id, funds)


def open_admitted(
    work: Work,
    held: Held,
    known: Sequence[Attempt],
    admitted: Admitted,
    deadline: datetime,
    now: datetime,
) -> Opened:
    """Insert the attempt of an admitted call, after those that are known."""
    choice, money = admitted.choice, admitted.funds.reservation
    record = attempts.dispatch(
        choice.request,
        choice.candidate,
        attempt_id=admitted.attempt_id,
        number=1 + max((each.record.attempt_number for each in known), default=0),
        assumed=estimation.unheard(choice.request),
        now=now,
        lease_id=None if money is None else money.lease_id,
    )
    reserved = 0 if money is None else money.pico_usd
    opened = Attempt(record, held.fence, deadline, reserved_pico_usd=reserved)
    books.open_attempt(work, opened)
    return Opened(opened, admitted.place, admitted.ticket, choice)


@contextmanager
def money_of(
    admitted: Admitted | None, purse: Purse | None
) -> Generator[funding.Taken]:
    """Give the money of an admitted call back unless the block keeps it."""
    attempt_id = "" if admitted is None else admitted.attempt_id
    funds = None if admitted is None else admitted.funds
    with funding.held(purse, attempt_id, funds) as taken:
        yield taken


async def dispatch(
    job: Job, place: int, *, waits: bool = True
) -> Opened | routing.GiveUp | None:
    """
    Admit and open an attempt at a candidate; None when the claim was lost.

    Args:
        job: What it is made for.
        place: The candidate's, on the route.
        waits: Whether to ask and wait for its money where there is none at hand.

    Raises:
        TransientFault: The store did not take it; nothing was dispatched.
    """
    deps, choice = job.deps, job.route.choices[place]
    attempt_id = deps.ids.new("attempt")
    funds = funding.take(job.purse, attempt_id, choice)
    if funds is None and waits:
        funds = await _fund(job, attempt_id, choice)
    if isinstance(funds, Denied):
        return routing.GiveUp(funds.code, funds.detail, funds.retryable)
    if funds is None:
        detail = "the caller cancelled the completion"
        return routing.GiveUp(Code.CANCELLED, detail, retryable=False)
    now = deps.clock.now()
    admitted = _admit(job.route, place, job.board, deps, attempt_id, funds)

    def transaction(work: Work) -> Opened | None:
        if not books.still_mine(work, job.held):
            return None
        known = work.attempts(job.held.tenant, job.held.completion_id)
        return open_admitted(work, job.held, known, admitted, job.deadline, now)

    opened = None
    try:
        with funding.held(job.purse, attempt_id, funds) as taken:
            opened = await deps.store.run(transaction)
            if opened is not None:
                taken.keep()
    finally:
        if opened is None:
            admitted.ticket.release()
    return opened


def _admit(
    route: Route,
    place: int,
    board: Board,
    deps: Deps,
    attempt_id: str,
    funds: Funds,
) -> Admitted:
    candidate = route.candidates[place]
    vendor = deps.vendors[candidate.vendor]
    choice = funding.cut(route.choices[place], funds, vendor)
    ticket = board.admit(candidate, route.tokens)
    return Admitted(place, choice, attempt_id, ticket, funds)


async def _fund(job: Job, attempt_id: str, choice: Choice) -> Funds | Denied | None:
    """Wait for an attempt's money; None when the caller cancels meanwhile."""
    waiting = funding.fund(job.purse, attempt_id, choice, job.deadline)
    # tidy: owned by this function, which waits for its end
    task = asyncio.create_task(waiting, name="money")
    try:
        with job.running.abortable(task.cancel):
            await asyncio.wait((task,))
    finally:
        task.cancel()
    return None if task.cancelled() else task.result()


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
