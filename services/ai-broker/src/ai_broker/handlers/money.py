"""A replica's part in budgets, wired: prices, purse, and the way back."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ai_broker.domain.attempt import Attempt
from ai_broker.handlers.purse import Purse
from ai_broker.handlers.returns import Returns
from ai_broker.handlers.tariff import Tariff
from ai_broker.ports import Meter, Slices
from determinism import Clock, IdSource


class Money:
    """
    What spends and returns slices of budgets.

    Args:
        meter: Lends them.
        slices: Where it is written down what was lent.
        clock: The time.
        ids: Lease ids.
        instance: This process.
    """

    def __init__(
        self, meter: Meter, slices: Slices, clock: Clock, ids: IdSource, instance: str
    ) -> None:
        self.tariff: Final = Tariff(meter, clock)
        self.purse: Final = Purse(
            meter=meter,
            slices=slices,
            tariff=self.tariff,
            clock=clock,
            ids=ids,
            instance=instance,
        )
        self.returns: Final = Returns(
            purse=self.purse,
            meter=meter,
            slices=slices,
            tariff=self.tariff,
            clock=clock,
            instance=instance,
        )

    @property
    def loops(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """What the process has to run beside its requests."""
        return (self.tariff.keep, self.returns.run)

    def committed(self, attempts: Sequence[Attempt]) -> None:
        """Hear from the store which attempts a commit has opened or settled."""
        self.purse.committed(attempts)
        self.returns.settled(attempts)
