"""What the handlers need from outside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from ai_broker.domain.attempt import Attempt
from ai_broker.domain.budget import Lent, Profile
from ai_broker.domain.cache import Kept
from ai_broker.domain.catalogue import Menu, VendorEntry
from ai_broker.domain.credential import Credential, Sealed
from ai_broker.domain.guard.policy import GuardBook
from ai_broker.ports.store import Store
from ai_broker.ports.vendors import EmbeddingVendor
from contracts.budgets import LeaseReply, LeaseRequest, LeaseReturn
from contracts.completions import CompletionRequest
from contracts.prices import PriceBook
from contracts.usage import UsageRecord
from determinism import Bell, Clock, IdSource

T = TypeVar("T")


class AnswerCache(Protocol):
    """Where the answer to an equal question may be found."""

    async def find(self, request: CompletionRequest, since: datetime) -> Kept | None:
        """
        Return an answer of the same tenant to an equal question, if there is one.

        What counts as equal is the adapter's: the same digest, or a near meaning.

        Args:
            request: The question.
            since: The answer must not be older.
        """
        ...


class Slices(Protocol):
    """What the meter lent to whom, as all replicas of the store know it."""

    async def add(self, lent: Lent) -> None:
        """Write a slice down, before it is asked for."""
        ...

    async def close(self, lease_id: str) -> Sequence[Attempt]:
        """Let nothing be reserved under a lease any more; return its attempts."""
        ...

    async def due(self, instance: str, before: datetime, limit: int) -> Sequence[Lent]:
        """Return closed slices of an instance, and anybody's that ended before."""
        ...

    async def forget(self, lease_id: str) -> None:
        """Forget a slice that was returned for good, or never lent."""
        ...

    async def profile(self, tenant: str) -> Profile | None:
        """Return what a tenant was last known to have limits on."""
        ...

    async def note(self, tenant: str, profile: Profile) -> None:
        """Remember what a tenant has limits on."""
        ...


class Meter(Protocol):
    """billing-meter; what it does not answer is a fault."""

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        """Ask for a slice; the meter may wait until the request's deadline."""
        ...

    async def give_back(self, message: LeaseReturn) -> None:
        """Return a slice."""
        ...

    async def prices(self) -> PriceBook:
        """Return the price book in force."""
        ...


class Prices(Protocol):
    """What calls cost, as far as it is known here."""

    def known(self, record: UsageRecord) -> int | None:
        """Return the cost of a usage record; None when no price is known."""
        ...


@dataclass(frozen=True)
class Own:
    """The vendors that one tenant has keys of its own for."""

    entries: tuple[VendorEntry, ...] = ()
    """As the catalogue has them."""
    vendors: Mapping[str, EmbeddingVendor] = field(
        default_factory=dict[str, EmbeddingVendor]
    )
    """A client of each, by name."""


@dataclass(frozen=True)
class Offer:
    """One version of the catalogue: what can be called by it."""

    vendors: Mapping[str, EmbeddingVendor]
    """A client of each usable vendor, by name."""
    menu: Menu
    """What can be asked for."""
    keyable: frozenset[str]
    """The vendors that a tenant may put a key of its own for."""


class Offers(Protocol):
    """What can be called, while the catalogue may change."""

    def now(self) -> Offer:
        """Return the newest version; whoever has taken one may go on using it."""
        ...

    async def refresh(self) -> None:
        """Take a changed catalogue; one with a mistake changes nothing and is told."""
        ...


class OwnVendors(Protocol):
    """Clients that call with tenants' own keys."""

    async def of(self, tenant: str) -> Own:
        """Return a tenant's; what changed elsewhere may show some seconds later."""
        ...

    async def forget(self, tenant: str, vendor: str) -> None:
        """Look anew at the next call: a key has changed."""
        ...


class Credentials(Protocol):
    """Where tenants' sealed keys are."""

    async def put(self, credential: Credential) -> None:
        """Keep a key in the place of an earlier one."""
        ...

    async def remove(self, tenant: str, vendor: str) -> bool:
        """Forget a key; False when there was none."""
        ...

    async def of(self, tenant: str) -> Sequence[Credential]:
        """Return a tenant's keys, by vendor."""
        ...

    async def sealed_otherwise(
        self, kek_id: str, after: tuple[str, str], limit: int
    ) -> Sequence[Credential]:
        """Return keys sealed under another KEK, past this tenant and vendor."""
        ...

    async def reseal(self, changes: Sequence[tuple[Credential, Sealed]]) -> int:
        """Replace seals that nobody changed meanwhile; return how many."""
        ...


class Sealer(Protocol):
    """Encrypts under key-encryption keys (KEKs)."""

    @property
    def kek_id(self) -> str | None:
        """The id of the KEK that seals; None without one."""
        ...

    def seal(self, secret: str, bound_to: bytes) -> Sealed:
        """Encrypt a text, bound to these bytes; PermanentFault without a KEK."""
        ...

    def unseal(self, sealed: Sealed, bound_to: bytes) -> str:
        """
        Decrypt a text.

        Raises:
            PermanentFault: Its KEK is not here, or it was sealed for something else.
        """
        ...


class Aside(Protocol):
    """Where work that takes the processor for long is done."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """Do it, letting others go on meanwhile where there are threads."""
        ...


async def here(work: Callable[[], T]) -> T:
    """Do it at once: for tests and simulations."""
    return work()


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds."""

    lease_s: float = 8.0
    """How long a claim lives unrenewed: callers of a dead replica wait it out."""
    heartbeat_s: float = 2.0
    """How often a claim is renewed."""
    poll_s: float = 0.25
    """How often a join looks at another replica's work."""
    call_max_s: float = 1_800.0
    """The longest call, whatever deadline its caller names."""
    sweep_s: float = 5.0
    """How often abandoned attempts are looked for."""
    grace_s: float = 10.0
    """How long after its deadline an attempt counts as abandoned."""
    prune_s: float = 600.0
    """How often old completions are looked for."""
    refresh_s: float = 2.0
    """How often it is looked whether the catalogue or the rate limits have changed."""
    keep_places_s: float = 10.0
    """How often calls at once are kept from lapsing; well within how long they last."""
    rewrap_s: float = 600.0
    """How often keys sealed under an older KEK are looked for."""
    keep_s: float = 30 * 86_400.0
    """How long an answer can be asked for again, after its end."""
    gather_s: float = 0.05
    """How long records gather before they go to the ledger together."""
    look_s: float = 5.0
    """How often records are looked for that another replica settled."""
    commit_tries: int = 6
    """How often an answer that was paid for is offered to the store."""

    @property
    def lease(self) -> timedelta:
        """The lease as a duration."""
        return timedelta(seconds=self.lease_s)


@dataclass(frozen=True)
class Deps:
    """Everything that the handlers use."""

    store: Store
    vendors: Mapping[str, EmbeddingVendor]
    menu: Menu
    clock: Clock
    ids: IdSource
    instance: str
    """This process, as cancels and leases know it."""
    cache: AnswerCache
    """Asked only for requests that take a kept answer."""
    own: OwnVendors
    """Clients that call with tenants' own keys."""
    credentials: Credentials
    """Those keys, sealed."""
    sealer: Sealer
    """What seals and opens them."""
    settled: Bell
    """Rings when an attempt was settled in this process."""
    keyable: frozenset[str] = frozenset()
    """The vendors that a tenant may put a key of its own for."""
    offers: Offers | None = None
    """Newer vendors and menus; None where those above never change."""
    limits: Limits = field(default_factory=Limits)
    guards: GuardBook = field(default_factory=GuardBook)
    """Which tenants' personal data is masked on its way to vendors."""
    aside: Aside = here
    """Where large requests are masked."""
    prices: Prices | None = None
    """None until somebody knows any: then nothing is the cheapest, or hedged."""
