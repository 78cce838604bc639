"""
What must hold of budgets at every step, by an account that no service keeps.

The oracle is told of every call as it begins and ends, and of the books after every
commit of the meter. Of each limit it knows

    owed     what calls have cost, and what those not yet answered may cost at most
    stuck    in the slices of processes that are dead
    idle     the rest of the limit: nobody needs it, wherever it lies

and holds three promises against it:

    never overshot     spent + held ≤ limit, and owed ≤ spent + held: money in use
                       never counts as free
    never starved      nothing is refused while the books have had enough for it free
                       for ``FREE``, or while enough has lain idle for ``IDLE``
    nothing lost       in the end nothing is held, and what is spent is what calls cost
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

Scope = str
"""A limit's kind and id; a text, since it is looked up at every step."""

FREE: Final = timedelta(seconds=2)
"""A replica takes a refusal to hold for a second without asking again."""
IDLE: Final = timedelta(seconds=5)
"""Idle slices are recalled every second; a message may be lost."""
FINDINGS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Books:
    """What the meter's store says of the limits after a commit."""

    limits: Mapping[Scope, int]
    spent: Mapping[Scope, int]
    held_by: Mapping[tuple[Scope, str], int]
    """By limit and by the process that was lent to."""

    held: Counter[Scope] = field(default_factory=Counter[Scope])
    """By limit."""

    def __post_init__(self) -> None:
        for (scope, _), pico_usd in self.held_by.items():
            self.held[scope] += pico_usd


@dataclass(slots=True)
class Seen:
    """One call."""

    instance: str
    scopes: tuple[Scope, ...]
    reserved: int
    cost: int
    is_begun: bool = False
    owed: int = 0
    """What of it must not count as free: nothing, all that is reserved, its cost."""


@dataclass(frozen=True, slots=True)
class Ghost:
    """A slice of somebody who will never be heard of again."""

    scopes: tuple[Scope, ...]
    pico_usd: int
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """What every limit had at one time."""

    at: datetime
    free: Mapping[Scope, int]
    idle: Mapping[Scope, int]


@dataclass
class Oracle:
    """The account; ``findings`` stays empty while the promises hold."""

    findings: list[str] = field(default_factory=list[str])
    looks: int = 0
    books: Books = field(default_factory=lambda: Books({}, {}, {}))
    calls: dict[str, Seen] = field(default_factory=dict[str, Seen])
    """Those under way."""
    ghosts: list[Ghost] = field(default_factory=list[Ghost])
    costs: dict[str, int] = field(default_factory=dict[str, int])
    """What calls have cost, by attempt."""
    unheard: dict[str, int] = field(default_factory=dict[str, int])
    """The same of calls whose end the broker did not live to hear."""
    _owed_least: Counter[Scope] = field(default_factory=Counter[Scope])
    _owed_most: Counter[Scope] = field(default_factory=Counter[Scope])
    _history: deque[Look] = field(default_factory=deque[Look])

    def opening(self, attempt_id: str, call: Seen) -> None:
        """Hear of a call whose commit is under way: perhaps it will be made."""
        self.calls[attempt_id] = call
        self._add(self._owed_most, call.scopes, call.reserved)

    def undone(self, attempt_id: str) -> None:
        """Hear that a call was not committed."""
        call = self.calls.pop(attempt_id)
        self._add(self._owed_most, call.scopes, -call.reserved)

    def began(self, attempt_id: str) -> None:
        """Hear that a vendor is being called: it may cost all that is reserved."""
        call = self.calls[attempt_id]
        call.is_begun = True
        self._owe(call, call.reserved)
        self._check(call.scopes)

    def answered(self, attempt_id: str) -> None:
        """
        Hear that a vendor is done: from now on a call costs what it cost.

        Its commit is still to be made. What is committed is there for all to see at
        once, so that a replica may return the rest of the reservation, and the meter
        take it back, before whoever committed goes on and tells of the end.
        """
        call = self.calls[attempt_id]
        self._owe(call, call.cost)

    def ended(self, attempt_id: str) -> None:
        """Hear that a call's cost is committed."""
        call = self.calls.pop(attempt_id)
        self._owe(call, call.cost)
        self._add(self._owed_most, call.scopes, call.cost - call.reserved)
        self.costs[attempt_id] = call.cost

    def crashed(self, instance: str) -> None:
        """Hear that a process died: its calls cost what they cost, and nobody knows."""
        for attempt_id, call in list(self.calls.items()):
            if call.instance != instance:
                continue
            del self.calls[attempt_id]
            if call.is_begun:
                self._owe(call, call.cost)
                self.unheard[attempt_id] = call.cost

    def haunt(self, ghost: Ghost) -> None:
        """Hear that somebody vanished with a slice; a call of his may be under way."""
        self.ghosts.append(ghost)
        self._add(self._owed_least, ghost.scopes, ghost.pico_usd)
        self._add(self._owed_most, ghost.scopes, ghost.pico_usd)

    def look(self, books: Books, alive: Iterable[str], now: datetime) -> None:
        """Hear what the books say after a commit of the meter."""
        self.looks += 1
        self.books = books
        self._exorcise(now)
        self._check(books.limits)
        living = frozenset(alive)
        stuck: Counter[Scope] = Counter()
        for (scope, instance), pico_usd in books.held_by.items():
            if instance not in living:
                stuck[scope] += pico_usd
        for ghost in self.ghosts:
            # Its slice is stuck, and owed already.
            self._add(stuck, ghost.scopes, -ghost.pico_usd)
        free = {s: limit - self.booked(s) for s, limit in books.limits.items()}
        idle = {
            scope: limit - self._owed_most[scope] - max(0, stuck[scope])
            for scope, limit in books.limits.items()
        }
        self._history.append(Look(now, free, idle))
        while self._history[0].at < now - 2 * IDLE:
            self._history.popleft()

    def refused(
        self,
        scopes: tuple[Scope, ...],
        least: int,
        waited: timedelta | None,
        now: datetime,
    ) -> None:
        """
        Hear that a call was refused for want of money.

        Args:
            scopes: What its cost would count against.
            least: The least that it would have cost.
            waited: How long it had waited when its deadline came; None if it was
                told before that waiting cannot help.
            now: When it was refused.
        """
        for name, window in (("free", FREE), ("idle", IDLE)):
            began = now - window
            if (waited is not None and waited < window) or not self._knows(began):
                continue
            looks = [each for each in self._history if each.at >= began]
            worst = min(
                getattr(each, name)[scope] for each in looks for scope in scopes
            )
            if worst >= least:
                self.find(
                    f"refused {least} at {now:%H:%M:%S} though {worst} was {name} for "
                    f"{window.total_seconds():g} s of each of {', '.join(scopes)}"
                )

    def compare(self, charges: Mapping[str, int], spent: Mapping[Scope, int]) -> None:
        """
        Hold the books in the end against what calls have cost.

        Args:
            charges: What each attempt was charged.
            spent: What that makes for each limit.
        """
        for attempt_id, cost in self.costs.items():
            if (said := charges.get(attempt_id)) != cost:
                self.find(f"{attempt_id} cost {cost}, and was charged {said}")
        for attempt_id, cost in self.unheard.items():
            if (said := charges.get(attempt_id, -1)) < cost:
                self.find(f"{attempt_id} cost {cost} unheard, and was charged {said}")
        for scope in self.books.limits:
            if held := self.books.held[scope]:
                self.find(f"{scope}: {held} is held by nobody")
            said, sum_ = self.books.spent.get(scope, 0), spent.get(scope, 0)
            if said != sum_:
                self.find(f"{scope}: {said} is spent, and {sum_} was charged")

    def _knows(self, at: datetime) -> bool:
        return bool(self._history) and self._history[0].at <= at

    def booked(self, scope: Scope) -> int:
        """Return what the books say is spent or held of a limit."""
        return self.books.spent.get(scope, 0) + self.books.held[scope]

    def find(self, text: str) -> None:
        """Note what must not be."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)

    def _check(self, scopes: Iterable[Scope]) -> None:
        for scope in scopes:
            limit, booked = self.books.limits.get(scope), self.booked(scope)
            if limit is None:
                continue
            if booked > limit:
                self.find(f"{scope}: {booked} booked of {limit}")
            if booked < (owed := self._owed_least[scope]):
                self.find(
                    f"{scope}: {owed} is owed, and only {booked} of it is spent or held"
                )

    def _owe(self, call: Seen, pico_usd: int) -> None:
        self._add(self._owed_least, call.scopes, pico_usd - call.owed)
        call.owed = pico_usd

    def _exorcise(self, now: datetime) -> None:
        gone = [each for each in self.ghosts if each.ends_at <= now]
        for ghost in gone:
            self.ghosts.remove(ghost)
            self._add(self._owed_least, ghost.scopes, -ghost.pico_usd)
            self._add(self._owed_most, ghost.scopes, -ghost.pico_usd)

    @staticmethod
    def _add(to: Counter[Scope], scopes: Iterable[Scope], pico_usd: int) -> None:
        for scope in scopes:
            to[scope] += pico_usd
