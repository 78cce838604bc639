"""A bus that sends nothing, for tests of the wired service."""

from typing import Final, TypeVar

from contracts.budgets import LeaseReply
from contracts.message import Message
from contracts.prices import PriceBook, UnitPrices
from contracts.subjects import Address
from pricing import make_book
from pricing.table import PARTS

M = TypeVar("M", bound=Message)

RATES: Final = UnitPrices.model_validate(dict.fromkeys(PARTS, 1))


class SilentBus:
    """Sends nothing, and answers for a meter that knows of no limits."""

    instance = "broker-1"

    def on_reconnect(self, callback: object) -> None:
        return

    async def request(
        self, address: Address, request: Message, reply: type[M], *, timeout_s: float
    ) -> M:
        del address, request, timeout_s
        answers: dict[type[Message], Message] = {
            LeaseReply: LeaseReply(is_unlimited=True, limited_kinds=(), hard_kinds=()),
            PriceBook: make_book("empty", (), RATES),
        }
        answer = answers[reply]
        assert isinstance(answer, reply)
        return answer
