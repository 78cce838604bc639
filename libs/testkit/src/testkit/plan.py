"""How rough a world is, what it has promised, and what happened in it."""

import hashlib
from dataclasses import dataclass, field

from testkit.clock import SimulationLoop
from testkit.simulated_wire import STORMY, Faults


@dataclass(frozen=True)
class Plan:
    """How big a world is, and how rough."""

    tasks: int = 5
    events: int = 3
    replicas: int = 2
    storm_s: float = 40.0
    quiet_s: float = 900.0
    faults: Faults = STORMY
    crashes: float = 0.006
    """Per port call."""
    steps_mean: int = 1_500
    """Callbacks that a process lives for, on average."""
    vendor_failing: float = 0.25
    outages: int = 2
    wipes: bool = True
    cancels: int = 1


class Trace:
    """What happened, as a hash and as the newest lines."""

    def __init__(self, loop: SimulationLoop) -> None:
        self._loop = loop
        self._hash = hashlib.sha256()
        self.lines: list[str] = []
        self.keeps = False
        self.count = 0

    def __call__(self, what: str, which: str) -> None:
        """Note one thing."""
        line = f"{self._loop.time():.6f} {what} {which}"
        self._hash.update(line.encode() + b"\n")
        self.count += 1
        if self.keeps:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """Return the hash of everything that happened."""
        return self._hash.hexdigest()


@dataclass
class Accepted:
    """What the world has promised its callers."""

    tasks: dict[str, bool] = field(default_factory=dict[str, bool])
    """Task id → whether a cancel was asked for."""
    events: set[str] = field(default_factory=set[str])
    """Ids of events whose PubAck came and that were never wiped away."""
