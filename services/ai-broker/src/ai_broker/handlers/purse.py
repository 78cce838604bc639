"""
This replica's purse: what calls may cost is taken from slices that the meter lent.

    take ──► funds, at once ─────────────────────────────► the attempt's commit
      └────► fund: ask the meter, wait for money ─► funds ─┘        │
                                   └─► Denied: 402, or 503          ▼
                                                    committed: told by the store

A tenant without limits costs one look into memory. Only one caller at a time asks for
a set of scopes; the others wait for what it brings, or for a call here to be settled.
The slice is written down before it is asked for, and so are its attempts, so whoever
shares the store can return it: see ``handlers.returns``.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, assert_never

import telemetry
from ai_broker.domain import budget, quote
from ai_broker.domain.attempt import Attempt
from ai_broker.domain.budget import Lent, Profile, Scopes, Slice
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.quote import Quote
from ai_broker.handlers.pot import Denied, Funds, Known, Later, Pot, Spent
from ai_broker.handlers.tariff import Tariff
from ai_broker.ports import Meter, Slices
from contracts.budgets import LeaseGrant, LeaseReply, LeaseRequest
from contracts.completions import CompletionRequest
from contracts.problems import Code
from contracts.usage import EndState
from determinism import Clock, IdSource
from faults import Fault
from messaging.refusals import Refused

ASK: Final = timedelta(seconds=1)
"""How long the meter may wait for money before it answers; then it is asked again."""
PROFILE_S: Final = 30.0
"""How long a tenant's limits are remembered, unless a bell rings."""
AWAY_S: Final = 2.0
"""How long a meter that does not answer is left alone."""
SLICE: Final = timedelta(seconds=60)
"""A slice is used no longer than this, whatever the meter grants."""
SPENT_S: Final = 1.0
"""How long a budget that is used up is taken to be so without asking."""
HEARD_S: Final = 2.0
"""How long those in line go by what the meter said to the first of them."""
USED_AT_LEAST: Final = timedelta(seconds=5)
TENANTS_MAX: Final = 10_000
LENGTHS_KEPT: Final = 200
MODELS_MAX: Final = 1_000

log = telemetry.get_logger()


@dataclass(frozen=True, slots=True)
class Wish:
    """What an attempt needs money for."""

    attempt_id: str
    request: CompletionRequest
    candidate: Candidate
    quotes: dict[bool, Quote] = field(default_factory=dict[bool, Quote])
    """By whether a hard limit applies; found once."""


class Purse:
    """
    What a replica may spend.

    Args:
        meter: Lends slices.
        slices: Where it is written down what was lent.
        tariff: What calls cost.
        clock: Expiry and waiting.
        ids: Lease ids.
        instance: This process.
    """

    def __init__(
        self,
        *,
        meter: Meter,
        slices: Slices,
        tariff: Tariff,
        clock: Clock,
        ids: IdSource,
        instance: str,
    ) -> None:
        self.lent: Final[dict[str, tuple[Pot, Slice]]] = {}
        """The slices that are in use here, by lease."""
        self._meter = meter
        self._store = slices
        self._tariff = tariff
        self._clock = clock
        self._ids = ids
        self._instance = instance
        self._pots: dict[tuple[str, Scopes], Pot] = {}
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._lengths: dict[tuple[str, str], deque[int]] = {}
        self._away_until_s = 0.0

    def take(
        self, attempt_id: str, request: CompletionRequest, candidate: Candidate
    ) -> Funds | None:
        """Take what a call may cost; None when it has to be asked or waited for."""
        return self._take(Wish(attempt_id, request, candidate), is_called=False)

    async def fund(
        self,
        attempt_id: str,
        request: CompletionRequest,
        candidate: Candidate,
        deadline: datetime,
    ) -> Funds | Denied:
        """Take what a call may cost, asking and waiting for it until the deadline."""
        wish, pot = Wish(attempt_id, request, candidate), self._pot(request)
        try:
            return await self._fund(wish, deadline)
        finally:
            for each in {pot, self._pot(request)}:
                each.ring()
                self._tidy(each)

    async def _fund(self, wish: Wish, deadline: datetime) -> Funds | Denied:
        last: Denied | None = None
        is_called = False
        while True:
            if (funds := self._take(wish, is_called=is_called)) is not None:
                return funds
            pot = self._pot(wish.request)
            if self._clock.now() >= deadline:
                return _counted(last or pot.heard(self._clock.monotonic()) or _UNHEARD)
            if pot.is_asking or (pot.waiting and not is_called):
                await pot.wait(deadline, self._clock, is_first=is_called)
                is_called = True
                continue
            pot.is_asking = True
            try:
                answer = await self._ask(pot, wish, deadline)
            finally:
                pot.is_asking = False
            match answer:
                case Funds():
                    return answer
                case Denied():
                    return _counted(answer)
                case Later(denied):
                    last, is_called = denied or last, True
                    if denied is not None:
                        until_s = self._clock.monotonic() + HEARD_S
                        pot.short = Spent(denied, 0, until_s)
                case _:
                    assert_never(answer)

    def _take(self, wish: Wish, *, is_called: bool) -> Funds | None:
        request = wish.request
        known = self._known.get(request.tenant)
        now_s = self._clock.monotonic()
        if known is None or known.until_s <= now_s:
            return None
        scopes = budget.limited(budget.scopes_of(request), known.profile.limited)
        if not scopes:
            return Funds(request)
        pot = self._pots.get((request.tenant, scopes))
        if pot is None or not self._tariff.is_open:
            return None
        if pot.unlimited_until_s > now_s:
            return Funds(request)
        if pot.waiting and not is_called:
            return None
        asked, now = self._quote(wish, pot), self._clock.now()
        found = budget.find(pot.slices, asked.whole, now)
        if found is None:
            return None
        return self._taken(found, wish, asked, asked.tokens)

    def put_back(self, attempt_id: str, funds: Funds, *, is_certain: bool) -> None:
        """
        Free what was taken for an attempt that was not committed.

        Args:
            attempt_id: The attempt.
            funds: What was taken for it.
            is_certain: False when nobody knows whether it was committed: then it
                stays taken for as long as the slice is used.
        """
        if funds.reservation is None:
            return
        if (found := self.lent.get(funds.reservation.lease_id)) is not None:
            pot, lent = found
            if is_certain:
                lent.put_back(attempt_id)
            else:
                lent.committed(attempt_id)
            pot.ring()

    def committed(self, attempts: Iterable[Attempt]) -> None:
        """Hear from the store which attempts a commit has opened or settled."""
        for each in attempts:
            if each.settled:
                self._learn(each)
            found = self.lent.get(each.record.lease_id or "")
            if found is None:
                continue
            pot, lent = found
            if each.settled:
                cost = self._tariff.at_most(each.record)
                lent.settle(each.record.attempt_id, cost)
                pot.ring()
            else:
                lent.committed(each.record.attempt_id)

    def forget(self, tenant: str) -> None:
        """Forget what was known of a tenant's limits: one of them has changed."""
        self._known.pop(tenant, None)
        for pot in self._pots.values():
            if pot.tenant == tenant:
                pot.forget()

    def prune(self) -> None:
        """Forget scopes that nobody has asked about for a while."""
        for pot in list(self._pots.values()):
            self._tidy(pot)

    def drop(self, lease_id: str) -> None:
        """Use a slice no more."""
        found = self.lent.pop(lease_id, None)
        if found is not None:
            pot, lent = found
            lent.is_closed = True
            pot.slices.remove(lent)
            pot.ring()
            self._tidy(pot)

    async def _ask(
        self, pot: Pot, wish: Wish, deadline: datetime
    ) -> Funds | Denied | Later:
        """Ask the meter once; one caller of a pot at a time."""
        request, now_s = wish.request, self._clock.monotonic()
        if now_s < self._away_until_s:
            return await self._without_meter(pot, request)
        try:
            await self._tariff.require()
            asked = self._quote(wish, pot)
            spent = pot.spent
            if spent and now_s < spent.until_s and asked.least >= spent.least:
                return spent.denied
            reply, lease_id = await self._borrow(pot, asked, deadline)
        except (Fault, Refused) as error:
            self._away_until_s = self._clock.monotonic() + AWAY_S
            log.warning("meter_away", tenant=request.tenant, detail=str(error))
            return await self._without_meter(pot, request)
        await self._note(request.tenant, reply)
        pot = self._pot(request)
        if reply.grant is not None:
            lent = self._keep(pot, lease_id, reply.grant)
            tokens = asked.fit(lent.left)
            if tokens is None or not lent.is_usable(self._clock.now()):
                return Later()
            return self._taken(lent, wish, asked, tokens)
        if reply.is_unlimited:
            pot.unlimited_until_s = self._clock.monotonic() + PROFILE_S
            return Funds(request)
        answer = _refusal(reply)
        if isinstance(answer, Denied):
            until_s = self._clock.monotonic() + SPENT_S
            pot.spent = Spent(answer, asked.least, until_s)
        return answer

    async def _borrow(
        self, pot: Pot, asked: Quote, deadline: datetime
    ) -> tuple[LeaseReply, str]:
        now = self._clock.now()
        lease_id = self._ids.new("lease")
        await self._store.add(Lent(lease_id, pot.tenant, self._instance, now + SLICE))
        request = LeaseRequest(
            lease_id=lease_id,
            tenant=pot.tenant,
            instance=self._instance,
            scopes=pot.scopes,
            pico_usd_min=asked.least,
            pico_usd_enough=asked.whole,
            pico_usd_wanted=asked.whole * pot.calls_wanted(),
            deadline=min(deadline, now + ASK),
        )
        try:
            reply = await self._meter.lease(request)
        except (Fault, Refused):
            # It may have been granted: what nobody here knows of is returned.
            await self._store.close(lease_id)
            raise
        if reply.grant is None:
            await self._store.forget(lease_id)
        return reply, lease_id

    async def _without_meter(
        self, pot: Pot, request: CompletionRequest
    ) -> Funds | Denied:
        """Decide while nobody can lend: soft limits give way, hard ones do not."""
        if pot.unlimited_until_s > 0:
            return Funds(request)
        known = self._known.get(request.tenant)
        profile = None if known is None else known.profile
        profile = profile or await self._store.profile(request.tenant)
        if profile is not None:
            kinds = {each.kind for each in budget.scopes_of(request)}
            if not kinds & profile.hard:
                return Funds(request)
        return _UNHEARD

    async def _note(self, tenant: str, reply: LeaseReply) -> None:
        """Remember which kinds of limits a tenant has, here and in the store."""
        every = frozenset(budget.KINDS)
        limited = every if reply.limited_kinds is None else reply.limited_kinds
        hard = every if reply.hard_kinds is None else reply.hard_kinds
        profile = Profile(frozenset(limited), frozenset(hard))
        before = self._known.pop(tenant, None)
        until_s = self._clock.monotonic() + PROFILE_S
        self._known[tenant] = Known(profile, until_s)
        if len(self._known) > TENANTS_MAX:
            self._known.popitem(last=False)
        if before is None or before.profile != profile:
            await self._store.note(tenant, profile)

    def _keep(self, pot: Pot, lease_id: str, grant: LeaseGrant) -> Slice:
        now = self._clock.now()
        lent = Slice(
            lease_id=lease_id,
            tenant=pot.tenant,
            scopes=grant.scopes or pot.scopes,
            pico_usd=grant.pico_usd,
            # By our own clock, even if the meter's is behind: it holds for longer.
            expires_at=max(min(grant.expires_at, now + SLICE), now + USED_AT_LEAST),
            used_at=now,
        )
        pot.slices.append(lent)
        self.lent[lease_id] = (pot, lent)
        return lent

    def _pot(self, request: CompletionRequest) -> Pot:
        """Return the pot of what is known to be limited of a request's scopes."""
        scopes = budget.scopes_of(request)
        known = self._known.get(request.tenant)
        if known is not None:
            scopes = budget.limited(scopes, known.profile.limited) or scopes
        key = (request.tenant, scopes)
        return self._pots.setdefault(key, Pot(*key))

    def _tidy(self, pot: Pot) -> None:
        if pot.is_idle and pot.unlimited_until_s <= self._clock.monotonic():
            self._pots.pop((pot.tenant, pot.scopes), None)

    def _quote(self, wish: Wish, pot: Pot) -> Quote:
        known = self._known.get(wish.request.tenant)
        kinds = {each.kind for each in pot.scopes}
        is_hard = known is None or bool(kinds & known.profile.hard)
        if (quoted := wish.quotes.get(is_hard)) is not None:
            return quoted
        given = (wish.request, wish.candidate, self._tariff.at_most, self._clock.now())
        if is_hard:
            quoted = quote.bounded(*given)
        else:
            model = (wish.candidate.vendor, wish.candidate.model)
            quoted = quote.usual(*given, tuple(self._lengths.get(model, ())))
        wish.quotes[is_hard] = quoted
        return quoted

    def _taken(self, lent: Slice, wish: Wish, asked: Quote, tokens: int) -> Funds:
        now, request = self._clock.now(), wish.request
        taken = lent.take(wish.attempt_id, asked.cost(tokens), now)
        sent = budget.fitted(request, tokens) if asked.is_bound else request
        return Funds(sent, taken)

    def _learn(self, attempt: Attempt) -> None:
        record = attempt.record
        if record.end_state is EndState.COMPLETED:
            if len(self._lengths) >= MODELS_MAX:
                self._lengths.clear()
            model = (record.vendor, record.model)
            lengths = self._lengths.setdefault(model, deque(maxlen=LENGTHS_KEPT))
            lengths.append(record.usage.output_tokens + record.usage.reasoning_tokens)


def _refusal(reply: LeaseReply) -> Denied | Later:
    if reply.refusal is None or reply.refusal.code is not Code.BUDGET_EXHAUSTED:
        return Later()
    denied = Denied(reply.refusal.code, reply.refusal.detail, retryable=False)
    return denied if reply.is_final else Later(denied)


def _counted(denied: Denied) -> Denied:
    telemetry.metrics.budget_denials_total.add(1, reason=denied.code.value)
    return denied


_AWAY: Final = "billing-meter does not answer; a hard budget may apply: try again soon"
_UNHEARD: Final = Denied(Code.UNAVAILABLE, _AWAY, retryable=True)
