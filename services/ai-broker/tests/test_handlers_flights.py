"""Equal questions at the same moment are asked once, and nobody waits in vain."""

import asyncio
from datetime import datetime

from broker_world import DONE, GOOD, LIMITED, Sink, World, play

from ai_broker.domain.vendor import Done, Started, Text
from ai_broker.handlers import Desk
from ai_broker.handlers.flights import complete_once
from contracts.completions import FinishReason
from contracts.frames import Opened
from contracts.problems import Code
from contracts.usage import TokenUsage


async def ask(world: World, desk: Desk, name: str, **changes: object) -> Sink:
    """Ask by a new id, taking an answer of the last minute."""
    sink = Sink()
    asked = {"completion_id": name, "cache_ttl_s": 60, **changes}
    await complete_once(world.request(**asked), sink, desk)
    return sink


def test_equal_questions_at_once_are_asked_once() -> None:
    """Each is answered under its own id; one is paid for."""

    async def scene(world: World) -> None:
        world.first.scripts = [[1.0, *GOOD, 1.0, DONE]]
        desk = world.replica("a")
        asking = (ask(world, desk, f"c{n}", user=f"user {n}") for n in range(10))
        first, *others = await asyncio.gather(*asking)
        assert not first.finished.completion.is_cached
        assert first.text == "Good day"
        for number, each in enumerate(others, 1):
            given = each.finished.completion
            assert each.text == "Good day"
            assert given.is_cached
            assert given.completion_id == f"c{number}"
            assert given.usage == TokenUsage()
        assert len(await world.ledger()) == 1
        assert desk.flights == {}

    play(scene)


def test_only_who_takes_a_kept_answer_waits() -> None:
    """Neither a question without a lifetime, nor another tenant's, nor another one."""

    async def scene(world: World) -> None:
        world.first.always = [1.0, *GOOD, DONE]
        desk = world.replica("a")
        asking = (
            ask(world, desk, "c1"),
            ask(world, desk, "c2", cache_ttl_s=None),
            ask(world, desk, "c3", tenant="globex"),
            ask(world, desk, "c4", output_tokens_max=9),
        )
        began = world.clock.now()
        answers = await asyncio.gather(*asking)
        assert not any(each.finished.completion.is_cached for each in answers)
        assert (world.clock.now() - began).total_seconds() < 1.5
        assert len(world.first.attempts) == 4

    play(scene)


def test_where_the_first_has_no_answer_the_others_ask() -> None:
    """A failure, or an answer that may not be given again, is nobody else's."""

    async def scene(world: World) -> None:
        truncated = [
            1.0,
            Started(200, None),
            Text(0, "Go"),
            Done(FinishReason.LENGTH, "m"),
        ]
        world.first.scripts = [truncated, [*GOOD, DONE]]
        desk = world.replica("a")
        first, second = await asyncio.gather(
            ask(world, desk, "c1"), ask(world, desk, "c2")
        )
        assert (first.text, second.text) == ("Go", "Good day")
        world.first.scripts = [[1.0, LIMITED], [LIMITED], [LIMITED], [*GOOD, DONE]]
        failed, answered = await asyncio.gather(
            ask(world, desk, "c3", output_tokens_max=9),
            ask(world, desk, "c4", output_tokens_max=9),
        )
        assert failed.code is Code.OVERLOADED
        assert answered.text == "Good day"

    play(scene)


def test_nobody_waits_away_all_of_its_time() -> None:
    """Half of it is left to ask for oneself, when the first one takes long."""

    async def scene(world: World) -> None:
        world.first.scripts = [[40.0, *GOOD, DONE], [*GOOD, DONE]]
        desk = world.replica("a")
        ended: list[datetime] = []

        async def hurried() -> Sink:
            sink = await ask(world, desk, "c2", **world.within(10))
            ended.append(world.clock.now())
            return sink

        began = world.clock.now()
        slow, quick = await asyncio.gather(ask(world, desk, "c1"), hurried())
        assert slow.text == quick.text == "Good day"
        assert 5 <= (ended[0] - began).total_seconds() < 6

    play(scene)


def test_the_same_completion_asked_twice_hears_itself() -> None:
    """It joins the call under way, frame by frame, and waits for nobody."""

    async def scene(world: World) -> None:
        heard: list[str] = []
        world.first.scripts = [
            [
                Started(200, None),
                Text(0, "Good "),
                lambda: heard.append(again.text),
                5.0,
                lambda: heard.append(again.text),
                Text(0, "day"),
                DONE,
            ]
        ]
        again = Sink()
        desk = world.replica("a")
        request = world.request(cache_ttl_s=60)

        async def repeat() -> None:
            await world.clock.sleep(1)
            await complete_once(request, again, desk)

        first = Sink()
        await asyncio.gather(complete_once(request, first, desk), repeat())
        assert heard == ["", "Good "]
        assert first.text == again.text == "Good day"
        assert isinstance(again.frames[0], Opened)
        assert len(world.first.attempts) == 1

    play(scene)
