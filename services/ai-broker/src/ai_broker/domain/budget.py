"""
A replica's slices of budgets: what may be reserved from them, and by whom.

    lent ──take──► pending ──committed──► reserved ──settled──► spent
            ▲         │
            └─put_back┘

Nothing here is the truth: the attempts in the store are. A slice only keeps a replica
from reserving more than it was lent, and is thrown away when it is returned. What is
in doubt stays taken until then.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from contracts.budgets import BudgetScope, ScopeKind
from contracts.completions import CompletionRequest

Scopes = tuple[BudgetScope, ...]
KINDS: Final = tuple(ScopeKind)


@dataclass(frozen=True, slots=True)
class Reservation:
    """What an attempt may cost, and under which lease; written with the attempt."""

    lease_id: str
    pico_usd: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Which kinds of scope a tenant has limits on."""

    limited: frozenset[ScopeKind]
    hard: frozenset[ScopeKind]


@dataclass(frozen=True, slots=True)
class Lent:
    """A slice as the store has it, written down before it is asked for."""

    lease_id: str
    tenant: str
    instance: str
    until: datetime
    """Nothing is reserved under it any more after this time."""


@dataclass(eq=False)
class Slice:
    """What a lease lent to this replica."""

    lease_id: str
    tenant: str
    scopes: Scopes
    pico_usd: int
    expires_at: datetime
    used_at: datetime
    taken: dict[str, int] = field(default_factory=dict[str, int])
    """Attempt → what it may cost."""
    pending: set[str] = field(default_factory=set[str])
    """Attempts whose commit is under way."""
    spent: int = 0
    is_closed: bool = False
    """Nothing new may be taken."""

    @property
    def reserved(self) -> int:
        """What calls under way may cost."""
        return sum(self.taken.values())

    @property
    def left(self) -> int:
        """What may still be taken."""
        return self.pico_usd - self.spent - self.reserved

    def is_usable(self, now: datetime) -> bool:
        """Tell whether new reservations are allowed."""
        return not self.is_closed and now < self.expires_at

    def take(self, attempt_id: str, pico_usd: int, now: datetime) -> Reservation:
        """Reserve for an attempt that is about to be committed."""
        self.taken[attempt_id] = pico_usd
        self.pending.add(attempt_id)
        self.used_at = now
        return Reservation(self.lease_id, pico_usd)

    def put_back(self, attempt_id: str) -> None:
        """Free what an attempt took that was certainly not committed."""
        self.pending.discard(attempt_id)
        self.taken.pop(attempt_id, None)

    def committed(self, attempt_id: str) -> None:
        """Note that an attempt is in the store."""
        self.pending.discard(attempt_id)

    def settle(self, attempt_id: str, pico_usd: int) -> None:
        """Note what an attempt cost; once, whatever comes again."""
        self.pending.discard(attempt_id)
        if self.taken.pop(attempt_id, None) is not None:
            self.spent += pico_usd


def find(slices: Iterable[Slice], pico_usd: int, now: datetime) -> Slice | None:
    """Return the slice that fits a call best: the one with the least too much."""
    fitting = (each for each in slices if each.is_usable(now) and each.left >= pico_usd)
    return min(fitting, key=lambda each: each.left, default=None)


def fitted(request: CompletionRequest, tokens: int) -> CompletionRequest:
    """Return the request with its answer's limit set to what is reserved for."""
    if request.output_tokens_max == tokens:
        return request
    return request.model_copy(update={"output_tokens_max": tokens})


def scopes_of(request: CompletionRequest) -> Scopes:
    """Return everything that a request's cost counts against."""
    ids = {
        ScopeKind.TENANT: request.tenant,
        ScopeKind.TEAM: request.team,
        ScopeKind.EMPLOYEE: request.employee,
        ScopeKind.TASK: request.task_id,
        ScopeKind.USER: request.user,
        ScopeKind.API_KEY: request.api_key_id,
    }
    return tuple(BudgetScope(kind=kind, id=of) for kind, of in ids.items() if of)


def limited(scopes: Scopes, kinds: frozenset[ScopeKind]) -> Scopes:
    """Return the scopes of kinds that have limits."""
    return tuple(each for each in scopes if each.kind in kinds)
