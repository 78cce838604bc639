"""A kept answer is given to equal questions that take it, and to nobody else."""

from datetime import timedelta

import pytest
from broker_world import DONE, GOOD, LIMITED, USAGE, World, play

from ai_broker.domain.cache import Kept
from ai_broker.domain.vendor import Declined, Done, Started, Text
from ai_broker.handlers import prune, tell
from ai_broker.ports import Limits
from contracts.completions import CompletionRequest, FinishReason
from contracts.frames import Answerer, Opened, TextDelta
from contracts.usage import TokenUsage
from faults import TransientFault


def test_an_equal_question_gets_the_kept_answer() -> None:
    """A hit costs nothing, is marked, streams, and is stored under its own id."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE]]
        desk = world.replica("a")
        paid = await world.ask(desk, completion_id="one", cache_ttl_s=60)
        hit = await world.ask(
            world.replica("b"), completion_id="two", cache_ttl_s=60, user="ann"
        )
        again = await world.ask(desk, completion_id="two", user="ann")
        given = hit.finished.completion
        assert [type(each) for each in hit.frames[:2]] == [Opened, TextDelta]
        assert hit.text == "Good day"
        assert given.completion_id == "two"
        assert given.is_cached
        assert given.usage == TokenUsage()
        assert given.attempts == ()
        assert given.parts == paid.finished.completion.parts
        assert not paid.finished.completion.is_cached
        assert again.finished.completion == given
        (record,) = await world.ledger()
        assert record.usage == USAGE
        assert record.completion_id == "one"

    play(scene)


def test_who_does_not_ask_for_a_kept_answer_gets_a_new_one() -> None:
    """Taking and keeping are both opted into, by each request for itself."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE]] * 4
        desk = world.replica("a")
        await world.ask(desk, completion_id="silent")
        await world.ask(desk, completion_id="one", cache_ttl_s=60)
        await world.ask(desk, completion_id="two")
        assert len(world.first.attempts) == 3
        await world.ask(desk, completion_id="three", cache_ttl_s=60)
        assert len(world.first.attempts) == 3

    play(scene)


def test_the_asker_s_own_lifetime_decides() -> None:
    """An answer older than the asker takes is asked for anew, and then kept anew."""

    async def scene(world: World) -> None:
        world.first.scripts = [
            [*GOOD, DONE],
            [Started(200, None), Text(0, "New"), DONE],
        ]
        desk = world.replica("a")
        await world.ask(desk, completion_id="one", cache_ttl_s=60)
        await world.clock.sleep(30)
        for name, ttl_s, text in (
            ("two", 31, "Good day"),
            ("three", 29, "New"),
            ("four", 31, "New"),
        ):
            deadline = world.clock.now() + timedelta(seconds=60)
            asked = {"completion_id": name, "cache_ttl_s": ttl_s, "deadline": deadline}
            assert (await world.ask(desk, **asked)).text == text
        assert len(world.first.attempts) == 2

    play(scene)


def test_a_hit_does_not_make_an_answer_younger() -> None:
    """An answer that is given again and again still ends at its own age."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE], [*GOOD, DONE]]
        desk = world.replica("a")
        for name, calls in (("one", 1), ("two", 1), ("three", 2)):
            deadline = world.clock.now() + timedelta(seconds=60)
            await world.ask(desk, completion_id=name, cache_ttl_s=50, deadline=deadline)
            assert len(world.first.attempts) == calls
            await world.clock.sleep(40)

    play(scene)


def test_no_tenant_gets_another_s_answer() -> None:
    """An equal question of another tenant is a question of its own."""

    async def scene(world: World) -> None:
        world.first.scripts = [
            [*GOOD, DONE],
            [Started(200, None), Text(0, "Mine"), DONE],
        ]
        desk = world.replica("a")
        await world.ask(desk, cache_ttl_s=60)
        for _ in range(2):
            other = await world.ask(desk, tenant="globex", cache_ttl_s=60)
            assert other.text == "Mine"
        own = await world.ask(desk, completion_id="two", cache_ttl_s=60)
        assert own.text == "Good day"

    play(scene)


@pytest.mark.parametrize(
    "ending",
    [
        [Text(0, "Good"), Done(FinishReason.LENGTH, "m")],
        [Text(0, "Good"), Done(FinishReason.CONTENT_FILTER, "m")],
        [Declined(0, "No"), Done(FinishReason.REFUSAL, "m")],
        [Declined(0, "No"), Done(FinishReason.STOP, "m")],
        [Done(FinishReason.STOP, "m")],
    ],
)
def test_what_is_no_whole_answer_is_not_kept(
    ending: list[Text | Declined | Done],
) -> None:
    """Truncated, filtered, declined and empty answers are asked for again."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Started(200, None), *ending], [*GOOD, DONE]]
        desk = world.replica("a")
        await world.ask(desk, completion_id="one", cache_ttl_s=60)
        sink = await world.ask(desk, completion_id="two", cache_ttl_s=60)
        assert sink.text == "Good day"
        assert not sink.finished.completion.is_cached

    play(scene)


def test_a_failed_completion_is_ended_by_a_kept_answer() -> None:
    """Its own vain attempts stay on the ledger and are told with the answer."""

    async def scene(world: World) -> None:
        world.first.scripts = [[LIMITED], [LIMITED], [LIMITED], [*GOOD, DONE]]
        desk = world.replica("a")
        await world.ask(desk, completion_id="one", cache_ttl_s=60)
        await world.ask(desk, completion_id="two", cache_ttl_s=60)
        sink = await world.ask(desk, completion_id="one", cache_ttl_s=60)
        assert sink.finished.completion.is_cached
        assert len(sink.finished.completion.attempts) == 3
        assert len(await world.ledger()) == 4

    play(scene)


def test_a_forgotten_answer_is_not_found() -> None:
    """What the prune deletes is gone for equal questions too."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE], [*GOOD, DONE]]
        desk = world.replica("a", Limits(keep_s=100))
        await world.ask(desk, completion_id="one", cache_ttl_s=86_400)
        await world.clock.sleep(101)
        await tell(desk.deps)
        assert await prune(desk.deps) == 1
        deadline = world.clock.now() + timedelta(seconds=60)
        sink = await world.ask(
            desk, completion_id="two", cache_ttl_s=86_400, deadline=deadline
        )
        assert not sink.finished.completion.is_cached

    play(scene)


def test_a_cache_that_cannot_be_asked_costs_only_the_hit() -> None:
    """Its fault is a miss: the question goes to the vendor."""

    class Down:
        async def find(self, request: CompletionRequest, since: object) -> Kept | None:
            raise TransientFault("look for a kept answer: planned")

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE]]
        desk = world.replica("a", cache=Down())
        assert (await world.ask(desk, cache_ttl_s=60)).text == "Good day"

    play(scene)


def test_the_first_piece_says_who_answers() -> None:
    """A vendor, a kept answer, a stored one; the other pieces do not repeat it."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE]]
        desk = world.replica("a")
        paid = await world.ask(desk, completion_id="one", cache_ttl_s=60)
        hit = await world.ask(desk, completion_id="two", cache_ttl_s=60)
        again = await world.ask(desk, completion_id="one", cache_ttl_s=60)
        for sink, model, is_cached in (
            (paid, "model-1", False),
            (hit, "model-1-2026", True),
            (again, "model-1-2026", False),
        ):
            first, *others = [f.by for f in sink.frames if isinstance(f, TextDelta)]
            by = Answerer(vendor="first", model=model, is_cached=is_cached)
            assert first == by
            assert not any(others)

    play(scene)


def test_after_a_failover_the_one_that_answers_is_named() -> None:
    """What the failed one had held back is forgotten, and so is its name."""

    async def scene(world: World) -> None:
        world.first.scripts = [[LIMITED]] * 3
        world.second.scripts = [[*GOOD, DONE]]
        sink = await world.ask(world.replica("a"), model="smart")
        deltas = [each for each in sink.frames if isinstance(each, TextDelta)]
        assert deltas[0].by == Answerer(vendor="second", model="model-2")

    play(scene)
