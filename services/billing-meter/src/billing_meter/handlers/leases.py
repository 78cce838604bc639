"""
Use cases: lend a slice of every limit that applies, and take it back.

A request that cannot be served rings for idle slices and waits for them, and for
the ledger to learn what running calls really cost, until its deadline: a refusal
after that is not a false one.
"""

from datetime import datetime, timedelta
from typing import Final, assert_never

import telemetry
from billing_meter.domain import leases
from billing_meter.domain.leases import Answer, Granted, Short, Spoilt, Unlimited
from billing_meter.domain.limits import Kinds, resets_at
from billing_meter.ports import Deps, Work
from contracts import subjects
from contracts.budgets import (
    LeaseGrant,
    LeaseRecall,
    LeaseReply,
    LeaseRequest,
    LeaseReturn,
)
from contracts.delivery import Nothing
from contracts.money import usd
from contracts.problems import Code, problem

REST_S: Final = 0.05
"""However often the bell rings, a request looks again no sooner than this."""
LOOK_S: Final = 0.2
"""Money that another replica took in shows after this long."""
RECALL_S: Final = 1.0
"""How often the replicas are asked again for what lies idle."""
PATIENCE: Final = timedelta(seconds=1)
"""How long a whole call's money is waited for before less is taken."""
WAIT_MAX: Final = timedelta(seconds=10)
"""The longest wait of one request; its asker asks again."""

log = telemetry.get_logger()


async def lease(request: LeaseRequest, deps: Deps) -> LeaseReply:
    """Lend a slice of every limit on the request's scopes, or say what is used up."""
    began = deps.clock.now()
    until = min(request.deadline, began + WAIT_MAX)
    rung_at: datetime | None = None
    while True:
        now, ring = deps.clock.now(), deps.changes.listen()
        patient = now < min(began + PATIENCE, until)
        answer, kinds = await deps.store.run(
            lambda work, now=now, patient=patient: _ask(
                work, request, deps, now, patient=patient
            )
        )
        is_short = isinstance(answer, Short) and not answer.is_final
        left_s = (until - now).total_seconds()
        if not is_short or left_s <= 0:
            return _reply(answer, kinds, now)
        if rung_at is None or (now - rung_at).total_seconds() >= RECALL_S:
            rung_at = now
            recall = LeaseRecall(tenant=request.tenant, scopes=request.scopes)
            await deps.bells.announce(subjects.recall_leases(request.tenant), recall)
        await ring.heard(min(left_s, LOOK_S))
        # Many bells make one look: each is a transaction of everybody who waits.
        await deps.clock.sleep(min(left_s, REST_S))


async def return_lease(message: LeaseReturn, deps: Deps) -> Nothing:
    """Take back what a replica did not spend; repeats change nothing."""
    now = deps.clock.now()

    def transaction(work: Work) -> None:
        work.books.own(message.tenant)
        known = work.books.lease(message.lease_id)
        if known is None:
            # It overtook its own request, which must not be granted any more.
            key = (message.lease_id, message.tenant, message.instance)
            work.books.add_lease(leases.spoilt(*key, now))
        elif known.tenant == message.tenant:
            returned = leases.give_back(
                known,
                message.spent_pico_usd,
                message.reserved_pico_usd,
                message.attempts,
            )
            work.books.save_lease(returned)

    await deps.store.run(transaction)
    deps.changes.ring()
    return Nothing()


def _ask(
    work: Work, request: LeaseRequest, deps: Deps, now: datetime, *, patient: bool
) -> tuple[Answer, Kinds]:
    books = work.books
    books.own(request.tenant)
    books.lapse(request.tenant, now)
    known = books.lease(request.lease_id)
    limits = books.limits(request.tenant, request.scopes)
    accounts = books.accounts(limits, now)
    answer = leases.ask(known, request, accounts, deps.terms, now, patient=patient)
    if isinstance(answer, Granted) and known is None:
        books.add_lease(answer.lease)
    return answer, books.kinds(request.tenant)


def _reply(answer: Answer, kinds: Kinds, now: datetime) -> LeaseReply:
    told = LeaseReply(limited_kinds=kinds.limited, hard_kinds=kinds.hard)
    match answer:
        case Granted(lent, limited):
            grant = LeaseGrant(
                lease_id=lent.lease_id,
                pico_usd=lent.granted,
                is_hard=lent.is_hard,
                expires_at=lent.expires_at,
                scopes=limited,
            )
            return told.model_copy(update={"grant": grant})
        case Unlimited():
            return told.model_copy(update={"is_unlimited": True})
        case Short():
            return told.model_copy(update=_refusal(answer, now))
        case Spoilt():
            detail = "this lease was returned: ask by a new lease id"
            return told.model_copy(update={"refusal": problem(Code.CONFLICT, detail)})
        case _:
            assert_never(answer)


def _refusal(short: Short, now: datetime) -> dict[str, object]:
    account = short.account
    scope, budget = account.limit.scope, account.limit.budget
    again = resets_at(account, now)
    when = "it does not reset" if again is None else f"it resets at {_text(again)}"
    detail = (
        f"the {budget.period.value} budget of {scope.kind.value} {scope.id} is used "
        f"up: {usd(account.spent)} of {usd(account.limit.pico_usd)} USD spent, "
        f"{usd(account.held)} held by calls under way; {when}; raise it to go on"
    )
    log.info(
        "lease_refused",
        tenant=account.limit.tenant,
        kind=scope.kind.value,
        period=budget.period.value,
        is_final=short.is_final,
    )
    telemetry.metrics.budget_refusals_total.add(1, kind=scope.kind.value)
    return {
        "refusal": problem(Code.BUDGET_EXHAUSTED, detail),
        "refused_scope": scope,
        "resets_at": again,
        "is_final": short.is_final,
    }


def _text(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
