"""
The process's work in progress, and what it has learned.

Nothing here is needed for correctness: another process joins by the store. It lets a
repeat in the same process see the answer grow and a cancel find its call, keeps calls
that are read on for their usage alone, and remembers how the vendors behave.
"""

import copy
from collections.abc import Generator
from contextlib import contextmanager

from ai_broker.handlers.board import Board
from ai_broker.handlers.drains import Drains
from ai_broker.handlers.purse import Purse
from ai_broker.handlers.running import Flight, Running
from ai_broker.ports import Deps

Key = tuple[str, str]


class Desk:
    """
    One for each process.

    Args:
        deps: What the handlers use.
        purse: What may be spent; without one nothing is limited.
    """

    def __init__(self, deps: Deps, purse: Purse | None = None) -> None:
        self.deps = deps
        self.purse = purse
        self.running: dict[Key, Running] = {}
        self.flights: dict[Key, Flight] = {}
        """By tenant and question, those whose answer equal ones may take."""
        self.board = Board(deps.clock, deps.ids)
        self.drains = Drains(deps)

    def seen_by(self, tenant: str, deps: Deps) -> "Desk":
        """Return the same desk as a tenant with keys of its own sees it."""
        view = copy.copy(self)
        view.deps = deps
        view.board = self.board.seen_by(tenant)
        return view

    @contextmanager
    def entry(self, key: Key) -> Generator[Running]:
        """Show a completion as running here."""
        running = Running()
        self.running[key] = running
        try:
            yield running
        finally:
            running.finish(None)
            if self.running.get(key) is running:
                del self.running[key]
