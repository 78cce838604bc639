"""What rate limits need from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ai_broker.domain.quota import Bound, Verdict
from ai_broker.domain.rate_book import RateBook


class Quotas(Protocol):
    """Where rates are counted."""

    async def admit(self, bounds: Sequence[Bound], holder: str) -> Verdict:
        """
        Count a call against all of its limits, or against none.

        Args:
            bounds: The limits.
            holder: The call, among those at once.

        Raises:
            TransientFault: They cannot be asked.
        """
        ...

    async def settle(self, bounds: Sequence[Bound], holder: str, tokens: int) -> None:
        """
        Free a call's place, and correct its tokens to what it used.

        Raises:
            TransientFault: They cannot be asked; the place then lapses by itself.
        """
        ...

    async def keep(self) -> None:
        """
        Keep the places of this process's calls from lapsing.

        Raises:
            TransientFault: They cannot be asked.
        """
        ...

    async def close(self) -> None:
        """Close the connections, if there are any."""
        ...


class RateFile(Protocol):
    """The rate limits, while they may change."""

    def now(self) -> RateBook:
        """Return those that hold now."""
        ...

    async def refresh(self) -> None:
        """Take changed ones; those with a mistake change nothing and are told."""
        ...


@dataclass(frozen=True)
class Rates:
    """The rate limits, and where they are counted."""

    file: RateFile
    quotas: Quotas
