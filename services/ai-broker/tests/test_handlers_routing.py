"""What is learned of vendors guides the next questions: limits, accounts, windows."""

import asyncio

import pytest
from broker_world import DONE, GOOD, World, entry, play

from ai_broker.domain.catalogue import ModelEntry
from ai_broker.domain.policy import Alias
from ai_broker.domain.vendor import Failure, FailureKind, Started
from contracts.problems import Code
from contracts.usage import EndState

ANSWER = [*GOOD, DONE]


def refused(status: int, code: str | None = None, **headers: str) -> Failure:
    """Give a refusal with headers; underscores become dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Failure(FailureKind.REFUSED, "no", status, code, named)


def test_a_limit_that_was_told_is_obeyed_by_everybody() -> None:
    """After a 429 nobody else runs into it: others are asked until it is over."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.scripts = [[refused(429, retry_after="30")]]
        world.first.always = world.second.always = ANSWER
        for number in range(6):
            sink = await world.ask(desk, model="smart", completion_id=f"c:{number}")
            assert sink.finished.completion.vendor == "second"
        assert len(world.first.attempts) == 1
        await world.clock.sleep(31)
        sink = await world.ask(desk, model="smart", completion_id="later")
        assert sink.finished.completion.vendor == "first"

    play(scene)


def test_an_empty_window_is_waited_for_when_it_is_short() -> None:
    """The headers say when the next request fits: no 429 is provoked, nobody fails."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        headers = {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "1m0s",
        }
        told = [Started(200, None, headers), *ANSWER[1:]]
        world.first.scripts, world.first.always = [told], ANSWER
        await world.ask(desk, completion_id="c:0")
        began = world.clock.now()
        sinks = await asyncio.gather(
            *(world.ask(desk, completion_id=f"c:{number}") for number in range(1, 6))
        )
        assert {each.text for each in sinks} == {"Good day"}
        gone_s = (world.clock.now() - began).total_seconds()
        assert 4.9 < gone_s < 5.5, "one a second"
        failed = [each for each in await world.ledger() if each.http_status == 429]
        assert failed == []

    play(scene)


def test_a_limit_that_outlasts_the_deadline_is_said_at_once() -> None:
    """Who cannot wait for the only vendor's window hears when to come back."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.scripts = [[refused(429, retry_after="50")]]
        early = await world.ask(desk, **world.within(20))
        assert early.code is Code.OVERLOADED
        assert early.failed.error.retry_after_s == pytest.approx(50, abs=1)
        again = await world.ask(desk, completion_id="c:1", **world.within(20))
        assert again.code is Code.OVERLOADED
        assert again.failed.error.retryable
        assert len(world.first.attempts) == 1
        assert again.failed.attempts == ()

    play(scene)


def test_the_catalogue_s_limit_paces_until_headers_come() -> None:
    """Requests a minute from the catalogue hold where a vendor tells nothing."""

    async def scene(world: World) -> None:
        models = (ModelEntry.model_validate(SLOW),)
        world.entries = (entry("first", "model-1", models=models), world.entries[1])
        desk = world.replica("a")
        world.first.always, world.second.always = ANSWER, ANSWER
        vendors = [
            (await world.ask(desk, model="smart", completion_id=f"c:{number}"))
            for number in range(4)
        ]
        assert [each.finished.completion.vendor for each in vendors] == [
            "first", "first", "second", "second",
        ]  # fmt: skip

    play(scene)


SLOW = {"name": "model-1", "limits": {"requests_per_minute": 2}}


def test_an_exhausted_account_is_remembered() -> None:
    """A spend limit's 429 is met once; the next questions go elsewhere at once."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.scripts = [[refused(429, "enforced_spend_limit_reached")]]
        world.first.always = world.second.always = ANSWER
        for number in range(3):
            sink = await world.ask(desk, model="smart", completion_id=f"c:{number}")
            assert sink.finished.completion.vendor == "second"
        assert len(world.first.attempts) == 1
        alone = await world.ask(desk, completion_id="alone")
        assert alone.code is Code.VENDOR_UNAVAILABLE
        assert not alone.failed.error.retryable
        await world.clock.sleep(601)
        deadline = world.within(60)
        later = await world.ask(desk, completion_id="later", **deadline)
        assert later.text == "Good day"

    play(scene, limit_s=2_000)


@pytest.mark.parametrize(
    ("second_tokens", "answers"), [(100_000, True), (4_000, False)]
)
def test_a_prompt_too_large_goes_to_a_larger_window(
    second_tokens: int,
    answers: bool,  # noqa: FBT001 -- a table's column
) -> None:
    """A 400 about the window is no refusal while a larger one is on the route."""

    async def scene(world: World) -> None:
        first = {"name": "model-1", "context_tokens": 8_000}
        second = {"name": "model-2", "context_tokens": second_tokens}
        world.entries = (
            entry("first", "model-1", models=(first,)),
            entry("second", "model-2", models=(second,)),
        )
        desk = world.replica("a")
        world.first.scripts = [[refused(400, "context_length_exceeded")]]
        world.second.always = ANSWER
        sink = await world.ask(desk, model="smart")
        if answers:
            assert sink.text == "Good day"
        else:
            assert sink.code is Code.INVALID
            assert not sink.failed.error.retryable
            assert world.second.attempts == []

    play(scene)


def test_sticky_users_keep_their_vendor() -> None:
    """One user's questions go to one vendor, whichever replica takes them."""

    async def scene(world: World) -> None:
        models = ["first/model-1", "second/model-2"]
        world.alias = Alias.model_validate({"models": models, "policy": "sticky"})
        world.first.always = world.second.always = ANSWER
        seen: dict[str, set[str]] = {}
        for number in range(40):
            user = f"user-{number % 8}"
            desk = world.replica(f"r{number % 3}")
            sink = await world.ask(
                desk, model="smart", completion_id=f"c:{number}", user=user
            )
            vendor = sink.finished.completion.vendor
            seen.setdefault(user, set()).add(vendor)
        assert {len(each) for each in seen.values()} == {1}
        assert {next(iter(each)) for each in seen.values()} == {"first", "second"}

    play(scene)


def test_the_fastest_leaves_a_slow_vendor() -> None:
    """Once one is known to be slow the other gets nearly everything."""

    async def scene(world: World) -> None:
        models = ["first/model-1", "second/model-2"]
        world.alias = Alias.model_validate({"models": models, "policy": "fastest"})
        desk = world.replica("a")
        world.first.always = [3.0, *ANSWER]
        world.second.always = [0.2, *ANSWER]
        for number in range(40):
            await world.ask(desk, model="smart", completion_id=f"c:{number}")
        assert len(world.first.attempts) <= 3
        assert len(world.second.attempts) >= 37

    play(scene)


def test_no_call_is_begun_that_cannot_end_in_time() -> None:
    """A retry that would outlast the deadline is not made: the caller hears at once."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.scripts = [[8.0, *ANSWER], [refused(503)]]
        await world.ask(desk, completion_id="c:0")
        began = world.clock.now()
        sink = await world.ask(desk, completion_id="c:1", **world.within(3))
        assert sink.code is Code.VENDOR_UNAVAILABLE
        assert sink.failed.error.retryable
        assert (world.clock.now() - began).total_seconds() < 0.1
        assert len(world.first.attempts) == 2

    play(scene)


def test_a_silent_candidate_is_followed_by_the_next() -> None:
    """Its own first-token limit holds; what it may have written is on the ledger."""

    async def scene(world: World) -> None:
        slow = {"name": "model-1", "first_token_s": 4}
        world.entries = (entry("first", "model-1", models=(slow,)), world.entries[1])
        desk = world.replica("a")
        world.first.always, world.second.always = [500.0], ANSWER
        began = world.clock.now()
        sink = await world.ask(desk, model="smart")
        assert sink.text == "Good day"
        assert (world.clock.now() - began).total_seconds() == pytest.approx(4, abs=0.1)
        silent, _ = await world.ledger()
        assert silent.end_state is EndState.TIMED_OUT
        assert silent.usage.output_tokens > 0

    play(scene)
