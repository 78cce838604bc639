"""An attempt's money: taken before its commit, given back when there is none."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from ai_broker.handlers.call import Choice
from ai_broker.handlers.pot import Denied, Funds
from ai_broker.handlers.purse import Purse
from ai_broker.ports.vendors import Vendor


class Taken:
    """What was taken for one attempt; it is given back unless ``keep`` is called."""

    is_kept = False

    def keep(self) -> None:
        """Note that the attempt is in the store."""
        self.is_kept = True


def take(purse: Purse | None, attempt_id: str, choice: Choice) -> Funds | None:
    """Take an attempt's money at once; None when it has to be asked for."""
    if purse is None:
        return Funds(choice.request)
    return purse.take(attempt_id, choice.request, choice.candidate)


async def fund(
    purse: Purse | None, attempt_id: str, choice: Choice, deadline: datetime
) -> Funds | Denied:
    """Take an attempt's money, waiting for it until the deadline."""
    if purse is None:
        return Funds(choice.request)
    return await purse.fund(attempt_id, choice.request, choice.candidate, deadline)


@contextmanager
def held(purse: Purse | None, attempt_id: str, funds: Funds | None) -> Generator[Taken]:
    """Give the money back unless the block keeps it; an error leaves it in doubt."""
    taken = Taken()
    is_certain = False
    try:
        yield taken
        is_certain = True
    finally:
        if purse is not None and funds is not None and not taken.is_kept:
            purse.put_back(attempt_id, funds, is_certain=is_certain)


def cut(choice: Choice, funds: Funds, vendor: Vendor) -> Choice:
    """Return the choice with its answer limited to what is reserved for."""
    if funds.request == choice.request:
        return choice
    prepared = vendor.prepare(funds.request, choice.candidate)
    return replace(choice, request=funds.request, prepared=prepared)
