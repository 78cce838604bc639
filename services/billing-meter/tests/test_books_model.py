"""
The books against a model: whatever replicas ask, spend, return, lose and repeat.

The model is what the world knows: which calls were made under which slice and what
they cost. The books learn it late, twice and in any order.
"""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from billing_world import NOW, batch, delivery, deps_on, record
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from billing_meter import handlers
from billing_meter.adapters.tables import MeterTable
from contracts.budgets import (
    ApplyBudget,
    Budget,
    BudgetPeriod,
    BudgetScope,
    BudgetView,
    LeaseRequest,
    LeaseReturn,
    ListBudgets,
    ScopeKind,
)
from contracts.money import usd
from contracts.usage import TokenUsage, UsageRecord
from persistence.inline import InlineDatabase

T = TypeVar("T")

TOKEN = 150_000
"""Pico-USD of one input token of the sandbox's small model."""
SCOPES = (
    BudgetScope(kind=ScopeKind.TENANT, id="acme"),
    BudgetScope(kind=ScopeKind.EMPLOYEE, id="clerk"),
    BudgetScope(kind=ScopeKind.USER, id="ada"),
)
LIMIT_TOKENS = 1_000


def now(awaited: Coroutine[Any, Any, T]) -> T:
    """Run a handler to its end; on this store none of them waits."""
    try:
        awaited.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    raise AssertionError("a handler waited")


class SteppedClock:
    """A clock that moves when it is told."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def sleep(self, duration_s: float) -> None:
        raise AssertionError("nothing here waits")


@dataclass
class Slice:
    """A replica's view of a lease."""

    tokens: int
    employee: str | None
    user: str | None
    expires_at: datetime
    reserved: dict[str, int] = field(default_factory=dict[str, int])
    settled: dict[str, int] = field(default_factory=dict[str, int])
    is_returned: bool = False

    @property
    def left(self) -> int:
        """What may still be reserved."""
        return self.tokens - sum(self.reserved.values()) - sum(self.settled.values())


class BooksModel(RuleBasedStateMachine):
    """Replicas on one tenant's budgets; limits are never lowered here."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SteppedClock()
        self.deps = deps_on(InlineDatabase.create(MeterTable.metadata), self.clock)
        self.slices: dict[str, Slice] = {}
        self.owed: list[UsageRecord] = []
        self.sent: list[UsageRecord] = []
        self.known: dict[str, UsageRecord] = {}
        self.names = 0
        for scope in SCOPES:
            budget = Budget(
                scope=scope,
                period=BudgetPeriod.LIFETIME,
                limit_usd=usd(LIMIT_TOKENS * TOKEN),
            )
            apply = ApplyBudget(tenant="acme", budget=budget)
            now(handlers.apply_budget(apply, self.deps))

    def name(self, prefix: str) -> str:
        """Return a fresh id."""
        self.names += 1
        return f"{prefix}_{self.names}"

    @rule(
        least=st.integers(1, 300),
        more=st.integers(0, 300),
        wanted=st.integers(0, 900),
        employee=st.sampled_from([None, "clerk"]),
        user=st.sampled_from([None, "ada"]),
    )
    def ask(
        self,
        least: int,
        more: int,
        wanted: int,
        employee: str | None,
        user: str | None,
    ) -> None:
        """A replica asks; what is free is never refused."""
        has = [True, employee is not None, user is not None]
        scopes = tuple(each for each, is_in in zip(SCOPES, has, strict=True) if is_in)
        free = min(
            each.free_pico_usd for each in self.views() if each.budget.scope in scopes
        )
        request = LeaseRequest(
            lease_id=self.name("lease"),
            tenant="acme",
            instance="broker-1",
            scopes=scopes,
            pico_usd_min=least * TOKEN,
            pico_usd_enough=(least + more) * TOKEN,
            pico_usd_wanted=wanted * TOKEN,
            deadline=self.clock.at,
        )
        reply = now(handlers.lease(request, self.deps))
        assert (reply.grant is not None) == (free >= least * TOKEN)
        if reply.grant is not None:
            assert now(handlers.lease(request, self.deps)).grant == reply.grant
            tokens = reply.grant.pico_usd // TOKEN
            made = Slice(tokens, employee, user, reply.grant.expires_at)
            self.slices[request.lease_id] = made

    @precondition(lambda self: self.usable())
    @rule(data=st.data())
    def reserve(self, data: st.DataObject) -> None:
        """A replica begins a call within its slice."""
        chosen = self.slices[data.draw(st.sampled_from(self.usable()))]
        tokens = data.draw(st.integers(1, chosen.left))
        chosen.reserved[self.name("attempt")] = tokens

    @precondition(lambda self: self.open_calls())
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """A call ends, costing at most what was reserved; its record is owed."""
        lease_id, attempt = data.draw(st.sampled_from(self.open_calls()))
        chosen = self.slices[lease_id]
        tokens = data.draw(st.integers(0, chosen.reserved.pop(attempt)))
        chosen.settled[attempt] = tokens
        self.owed.append(
            record(
                attempt,
                usage=TokenUsage(input_tokens=tokens),
                lease_id=lease_id,
                employee=chosen.employee,
                user=chosen.user,
                occurred_at=self.clock.at,
            )
        )

    @precondition(lambda self: self.owed)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """The outbox brings one record, in any order."""
        self.meter(self.owed.pop(data.draw(st.integers(0, len(self.owed) - 1))))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        """A record comes twice, under another message id."""
        self.meter(data.draw(st.sampled_from(self.sent)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def correct(self, data: st.DataObject) -> None:
        """The vendor's report lowers what an attempt was assumed to cost."""
        last = self.known[data.draw(st.sampled_from(sorted(self.known)))]
        tokens = data.draw(st.integers(0, last.usage.input_tokens))
        usage = TokenUsage(input_tokens=tokens)
        update = {"revision": last.revision + 1, "usage": usage}
        self.slices[last.lease_id or ""].settled[last.attempt_id] = tokens
        self.meter(last.model_copy(update=update))

    @precondition(lambda self: self.slices)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """A replica returns a slice, for the first time or again."""
        lease_id = data.draw(st.sampled_from(sorted(self.slices)))
        chosen = self.slices[lease_id]
        chosen.is_returned = True
        message = LeaseReturn(
            lease_id=lease_id,
            tenant="acme",
            instance="broker-1",
            spent_pico_usd=sum(chosen.settled.values()) * TOKEN,
            reserved_pico_usd=sum(chosen.reserved.values()) * TOKEN,
            attempts=None if chosen.reserved else len(chosen.settled),
        )
        now(handlers.return_lease(message, self.deps))

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        """Time passes; leases expire, and hold what they hold."""
        self.clock.at += timedelta(seconds=seconds)

    @invariant()
    def nothing_is_overshot(self) -> None:
        """Even if every call under way cost all that it reserved."""
        for each in self.views():
            scope = each.budget.scope
            liable = sum(
                sum(lent.reserved.values()) + sum(lent.settled.values())
                for lent in self.slices.values()
                if scope.kind is ScopeKind.TENANT
                or scope.id in {lent.employee, lent.user}
            )
            assert liable <= LIMIT_TOKENS
            assert each.free_pico_usd >= 0
            assert each.limit_pico_usd == (
                each.spent_pico_usd + each.held_pico_usd + each.free_pico_usd
            )
            delivered = sum(
                known.usage.input_tokens
                for known in self.known.values()
                if scope.kind is ScopeKind.TENANT
                or scope.id in {known.employee, known.user}
            )
            assert each.spent_pico_usd == delivered * TOKEN

    def teardown(self) -> None:
        """In the end everything is returned and metered: nothing stays held."""
        for lease_id, lent in self.slices.items():
            lent.settled |= lent.reserved
            for attempt, tokens in lent.reserved.items():
                usage = TokenUsage(input_tokens=tokens)
                options = {"employee": lent.employee, "user": lent.user}
                self.meter(record(attempt, usage=usage, lease_id=lease_id, **options))
            message = LeaseReturn(
                lease_id=lease_id,
                tenant="acme",
                instance="broker-1",
                spent_pico_usd=sum(lent.settled.values()) * TOKEN,
                reserved_pico_usd=0,
                attempts=len(lent.settled),
            )
            now(handlers.return_lease(message, self.deps))
        while self.owed:
            self.meter(self.owed.pop())
        assert [each.held_pico_usd for each in self.views()] == [0, 0, 0]

    def views(self) -> list[BudgetView]:
        """Return what the books say."""
        request = ListBudgets(tenant="acme")
        return list(now(handlers.list_budgets(request, self.deps)).budgets)

    def meter(self, used: UsageRecord) -> None:
        """Deliver a record."""
        self.sent.append(used)
        last = self.known.get(used.attempt_id)
        if last is None or last.revision < used.revision:
            self.known[used.attempt_id] = used
        message = delivery(self.name("message"))
        now(handlers.meter_usage(batch(used), message, self.deps))

    def usable(self) -> list[str]:
        """Return the slices that a call may begin under."""
        return [
            lease_id
            for lease_id, lent in self.slices.items()
            if not lent.is_returned
            and lent.left > 0
            and self.clock.at < lent.expires_at
        ]

    def open_calls(self) -> list[tuple[str, str]]:
        """Return calls under way, with their leases."""
        return [
            (lease_id, attempt)
            for lease_id, lent in self.slices.items()
            for attempt in lent.reserved
        ]


TestBooks = BooksModel.TestCase
TestBooks.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
)
