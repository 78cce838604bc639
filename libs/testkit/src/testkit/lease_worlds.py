"""What a lease storm needs of a world, and the one with real stores and NATS."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ai_broker.handlers.purse import Purse
from ai_broker.ports import Deps
from contracts.budgets import (
    Budget,
    BudgetScope,
    BudgetView,
    LeaseReply,
    LeaseRequest,
    ScopeKind,
)
from contracts.subjects import LEASE, Service
from persistence.inline import Moment
from testkit import lease_books
from testkit.clock import SimulatedClock, SimulationLoop
from testkit.incarnation import Incarnation
from testkit.lease_oracle import Books
from testkit.money_world import TENANT, MoneyWorld
from testkit.simulated_wire import Faults

GHOST: Final = "ghost"
IDS: Final = {
    ScopeKind.TENANT: (TENANT,),
    ScopeKind.TEAM: ("north", "south", "west"),
    ScopeKind.EMPLOYEE: ("clerk", "buyer", "writer", "coder", "nurse", "judge"),
    ScopeKind.USER: ("ada", "bob", "cy", "dee"),
    ScopeKind.API_KEY: ("key_one", "key_two", "key_three"),
    ScopeKind.TASK: ("task_one", "task_two", "task_three"),
}
"""Twenty limits."""
FIELDS: Final = {
    "team": (ScopeKind.TEAM, 0.8),
    "employee": (ScopeKind.EMPLOYEE, 0.8),
    "user": (ScopeKind.USER, 0.6),
    "api_key_id": (ScopeKind.API_KEY, 0.7),
    "task_id": (ScopeKind.TASK, 0.5),
}
"""A caller has one of each kind, this often."""
SCOPES: Final = tuple(
    BudgetScope(kind=kind, id=name) for kind, names in IDS.items() for name in names
)


@dataclass(frozen=True)
class Weather:
    """What goes wrong in a storm, and who is told."""

    brokers: int
    crashes: Mapping[str, float]
    """By service: how likely each place to crash is to be its last."""
    lost: float
    """How often a message is lost, or comes twice."""
    look: Callable[[Books], None]
    """Told what the books say after every commit of the meter."""
    crashed: Callable[[str], None]
    """Told which process died."""


@dataclass(frozen=True)
class Broker:
    """A replica that is up."""

    name: str
    incarnation: Incarnation
    purse: Purse
    deps: Deps


class StormWorld(Protocol):
    """Brokers and a meter that can be looked at and disturbed."""

    clock: SimulatedClock
    findings: list[str]

    @property
    def crashes(self) -> int:
        """How often a process died."""
        ...

    async def start(self) -> None:
        """Start every process."""
        ...

    def broker(self, number: int) -> Broker | None:
        """Return a broker, if it is up."""
        ...

    def alive(self) -> list[str]:
        """Return the names of the processes that are up."""
        ...

    async def apply(self, budget: Budget) -> BudgetView:
        """Put a budget on a scope of the tenant."""
        ...

    async def borrow(self, request: LeaseRequest) -> LeaseReply:
        """Ask for a slice as somebody unknown."""
        ...

    async def charges(self) -> dict[str, int]:
        """Return what each attempt was charged; -1 where the ledger disagrees."""
        ...

    async def charged(self) -> dict[str, int]:
        """Return what that makes for each scope."""
        ...

    async def leases(self) -> dict[str, int]:
        """Return how leases ended."""
        ...

    def calm(self) -> None:
        """Let nothing crash any more."""
        ...

    def stop_brokers(self) -> None:
        """End all brokers for good."""
        ...


class SqlWorld:
    """
    The services as composed in production, on SQL and the simulated NATS.

    Args:
        loop: Virtual time.
        seed: Decides everything.
        weather: How often what goes wrong, and who is told.
    """

    def __init__(self, loop: SimulationLoop, seed: int, weather: Weather) -> None:
        self._world = MoneyWorld(
            loop,
            seed,
            brokers=weather.brokers,
            faults=_windy(weather.lost),
            crashes={Service(name): rate for name, rate in weather.crashes.items()},
            watch=self._watch,
        )
        self._world.on_crash = weather.crashed
        self._weather = weather
        self._store = self._world.stores[Service.BILLING_METER]
        self._stranger = self._world.bus(Service.AI_BROKER, GHOST, lambda: True)
        self.clock = self._world.clock
        self.findings = self._world.findings

    @property
    def crashes(self) -> int:
        """How often a process died."""
        return self._world.crashes

    async def start(self) -> None:
        """Start every process."""
        await self._world.start()
        await self._stranger.connect()

    def broker(self, number: int) -> Broker | None:
        """Return a broker, if it is up."""
        run = self._world.alive.get(f"{Service.AI_BROKER}-{number}")
        if run is None:
            return None
        desk, incarnation = run.composed.desk, run.process.incarnation
        return Broker(incarnation.name, incarnation, desk.purse, desk.deps)

    def alive(self) -> list[str]:
        """Return the names of the processes that are up."""
        return [each.process.incarnation.name for each in self._world.alive.values()]

    async def apply(self, budget: Budget) -> BudgetView:
        """Put a budget on a scope of the tenant."""
        return await self._world.apply(budget)

    async def borrow(self, request: LeaseRequest) -> LeaseReply:
        """Ask for a slice as somebody unknown."""
        address = LEASE.to(TENANT)
        return await self._stranger.request(address, request, LeaseReply, timeout_s=3)

    async def charges(self) -> dict[str, int]:
        """Return what each attempt was charged; -1 where the ledger disagrees."""
        return await self._store.read(lease_books.charges)

    async def charged(self) -> dict[str, int]:
        """Return what that makes for each scope."""
        return dict(await self._store.read(lease_books.charged))

    async def leases(self) -> dict[str, int]:
        """Return how leases ended."""
        return dict(await self._store.read(lease_books.leases))

    def calm(self) -> None:
        """Let nothing crash any more."""
        self._world.calm()

    def stop_brokers(self) -> None:
        """End all brokers for good."""
        self._world.stop(Service.AI_BROKER)

    async def _watch(self, moment: Moment) -> None:
        if moment == "committed":
            self._weather.look(await self._store.read(lease_books.books))


def _windy(lost: float) -> Faults:
    return Faults(
        hop_s_max=0.02,
        core_dropped=lost,
        core_duplicated=lost,
        core_reordered=lost,
        publish_lost=lost,
        puback_lost=lost,
        delivery_lost=lost,
        delivery_duplicated=lost,
        ack_lost=lost,
    )
