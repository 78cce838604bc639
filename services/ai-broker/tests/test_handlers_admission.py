"""Rate limits before the claim: refused calls cost nothing, and say when to come."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from broker_world import DONE, GOOD, LIMITED, Sink, World, play

from ai_broker.adapters.memory_quotas import MemoryQuotas
from ai_broker.adapters.rate_file import NoRates
from ai_broker.domain.cache import Kept
from ai_broker.domain.quota import Bound, Verdict
from ai_broker.domain.rate_book import RateBook, RateRule
from ai_broker.handlers import Desk, admit
from ai_broker.ports.rates import Quotas, Rates
from contracts.budgets import ScopeKind
from contracts.completions import CompletionRequest
from contracts.frames import Finished, Opened
from contracts.problems import Code
from contracts.rates import Measure
from faults import TransientFault
from messaging.subscriptions import FrameBody

ANSWER = (*GOOD, DONE)


@dataclass
class Book:
    """Rules that a test may change."""

    book: RateBook

    def now(self) -> RateBook:
        return self.book

    async def refresh(self) -> None:
        return


def limiting(quotas: Quotas, **limits: int) -> Rates:
    """Limit every API key."""
    rule = RateRule.model_validate({"scope": ScopeKind.API_KEY, **limits})
    return Rates(Book(RateBook([rule])), quotas)


async def ask(world: World, desk: Desk, rates: Rates, **changes: object) -> Sink:
    """Ask as the subscription does."""
    sink = Sink()
    asked = {"api_key_id": "k1", **changes}
    await admit(world.request(**asked), sink, desk, rates)
    return sink


def opened(sink: Sink) -> Opened:
    """Return the first frame."""
    first = sink.frames[0]
    assert isinstance(first, Opened)
    return first


def test_a_call_above_its_rate_is_429_and_says_when() -> None:
    """Nothing is claimed or dispatched; another key is not concerned."""

    async def scene(world: World) -> None:
        rates = limiting(MemoryQuotas(world.clock), requests_per_minute=2)
        desk = world.replica("one")
        world.first.scripts += [ANSWER] * 5
        answered = [
            await ask(world, desk, rates, completion_id=name) for name in ("c1", "c2")
        ]
        assert [each.text for each in answered] == ["Good day"] * 2
        refused = await ask(world, desk, rates, completion_id="c3")
        assert refused.code is Code.RATE_LIMITED
        error = refused.failed.error
        assert error.problem.status == 429
        assert (error.retryable, error.retry_after_s) == (True, 30)
        assert "api-key k1 may have 2 requests per minute" in error.problem.detail
        assert error.rates is not None
        assert [(each.policy, each.left, each.resets_in_s) for each in error.rates] == [
            ("api-key-requests", 0, 30)
        ]
        assert len(await world.ledger()) == 2
        others = ({"api_key_id": "k2"}, {"api_key_id": None})
        for number, change in enumerate(others, 4):
            sink = await ask(world, desk, rates, completion_id=f"c{number}", **change)
            assert sink.text == "Good day"
        await world.clock.sleep(30)
        again = await ask(world, desk, rates, completion_id="c3")
        assert again.text == "Good day"

    play(scene)


def test_an_answer_is_told_what_is_left() -> None:
    """In its first frame, so that it can stand in the head of a stream."""

    async def scene(world: World) -> None:
        rates = limiting(MemoryQuotas(world.clock), requests_per_minute=6, concurrent=3)
        world.first.scripts += [ANSWER] * 2
        found = await ask(world, world.replica("one"), rates)
        told = opened(found).rates
        assert told is not None
        assert [(each.measure, each.limit, each.left) for each in told] == [
            (Measure.REQUESTS, 6, 5),
            (Measure.CONCURRENT, 3, 2),
        ]
        without = await ask(
            world, world.replica("two"), rates, completion_id="c2", api_key_id=None
        )
        assert opened(without).rates is None

    play(scene)


def test_tokens_count_by_what_an_answer_used() -> None:
    """The estimate reserves 4,096 for an answer; 18 of them were used."""

    async def scene(world: World) -> None:
        rates = limiting(MemoryQuotas(world.clock), tokens_per_minute=5_000)
        desk = world.replica("one")
        world.first.scripts += [ANSWER] * 30
        for number in range(30):
            sink = await ask(world, desk, rates, completion_id=f"c{number}")
            assert sink.text == "Good day"
            told = opened(sink).rates
            assert told is not None
            # 18 tokens were used by each before, and this one's estimate is taken.
            before = 5_000 - number * 18
            assert before - 4_200 < told[0].left < before - 4_096

    play(scene)


def test_a_stored_answer_takes_no_tokens() -> None:
    """The request counts; what was paid for before is not counted again."""

    async def scene(world: World) -> None:
        rates = limiting(
            MemoryQuotas(world.clock), tokens_per_minute=9_000, requests_per_minute=100
        )
        desk = world.replica("one")
        world.first.scripts.append(ANSWER)
        await ask(world, desk, rates)
        await world.clock.sleep(1)
        left: list[tuple[int, ...]] = []
        for _ in range(3):
            sink = await ask(world, desk, rates)
            assert sink.text == "Good day"
            left.append(tuple(each.left for each in opened(sink).rates or ()))
        assert left == [(99, left[0][1]), (98, left[0][1]), (97, left[0][1])]

    play(scene)


@dataclass
class Impatient:
    """Asks again as soon as it hears the end."""

    frames: list[FrameBody] = field(default_factory=list[FrameBody])
    places_at_end: list[Verdict] = field(default_factory=list[Verdict])
    quotas: Quotas | None = None
    bounds: tuple[Bound, ...] = ()

    async def send(self, frame: FrameBody) -> None:
        self.frames.append(frame)
        if isinstance(frame, Finished) and self.quotas is not None:
            self.places_at_end.append(await self.quotas.admit(self.bounds, "next"))


def test_a_place_is_free_by_the_time_that_the_end_is_told() -> None:
    """Whoever has one place and asks again at once is not refused."""

    async def scene(world: World) -> None:
        quotas = MemoryQuotas(world.clock)
        rates = limiting(quotas, concurrent=1)
        request: CompletionRequest = world.request(api_key_id="k1")
        bounds = rates.file.now().bounds(request, lambda: 0)
        sink = Impatient(quotas=quotas, bounds=bounds)
        world.first.scripts.append(ANSWER)
        await admit(request, sink, world.replica("one"), rates)
        assert [each.refused_by for each in sink.places_at_end] == [None]

    play(scene)


def test_a_place_is_freed_whatever_happens() -> None:
    """A vendor that fails, a request that nobody can answer, a bug: all end."""

    async def scene(world: World) -> None:
        rates = limiting(MemoryQuotas(world.clock), concurrent=1)
        desk = world.replica("one", cache=Broken())
        unknown = await ask(world, desk, rates, model="nobody/knows")
        assert unknown.code is Code.MODEL_UNKNOWN
        with pytest.raises(ZeroDivisionError):
            await ask(world, desk, rates, completion_id="c2", cache_ttl_s=60)
        world.first.always = [LIMITED]
        failed = await ask(world, desk, rates, completion_id="c4", **world.within(9))
        assert failed.code is Code.OVERLOADED
        world.first.scripts.append(ANSWER)
        sink = await ask(world, desk, rates, completion_id="c3")
        assert sink.text == "Good day"

    play(scene)


class Broken:
    """A cache with a bug."""

    async def find(self, request: CompletionRequest, since: datetime) -> Kept | None:
        raise ZeroDivisionError


@dataclass
class Away:
    """Cannot be asked, from the start or from the end of a call on."""

    is_away_at_first: bool = True

    async def admit(self, bounds: Sequence[Bound], holder: str) -> Verdict:
        if self.is_away_at_first:
            raise TransientFault("Redis is away")
        return Verdict(())

    async def settle(self, bounds: Sequence[Bound], holder: str, tokens: int) -> None:
        raise TransientFault("Redis is away")

    async def keep(self) -> None:
        raise TransientFault("Redis is away")

    async def close(self) -> None:
        return


@pytest.mark.parametrize("is_away_at_first", [True, False])
def test_limits_that_cannot_be_asked_let_calls_pass(*, is_away_at_first: bool) -> None:
    """They keep order and are no money, so their store's outage stops nobody."""

    async def scene(world: World) -> None:
        rates = limiting(Away(is_away_at_first), requests_per_minute=1)
        desk = world.replica("one")
        world.first.scripts += [ANSWER] * 2
        for name in ("c1", "c2"):
            sink = await ask(world, desk, rates, completion_id=name)
            assert sink.text == "Good day"

    play(scene)


def test_a_call_without_limits_asks_nobody() -> None:
    """Most calls have none: they must not pay for those that have."""

    async def scene(world: World) -> None:
        world.first.scripts.append(ANSWER)
        sink = await ask(world, world.replica("one"), Rates(NoRates(), Away()))
        assert sink.text == "Good day"
        assert opened(sink).rates is None

    play(scene)
