"""Vectors are paid once and metered by attempt, exactly as answers are."""

import contextlib

from broker_world import LIMITED, ScriptedVendor, World, play

from ai_broker.domain.vendor import (
    Done,
    Failure,
    FailureKind,
    Started,
    UsageSeen,
    Vectors,
)
from ai_broker.ports import Limits
from contracts.completions import FinishReason
from contracts.embeddings import FRAME_VECTOR_BYTES_MAX
from contracts.frames import Finished, Opened, VectorsDelta
from contracts.problems import Code
from contracts.usage import EndState, TokenUsage, UsageSource
from faults import TransientFault

VECTOR = bytes(range(16))
USED = TokenUsage(input_tokens=5)
SEEN = UsageSeen(USED, {"prompt_tokens": 5}, final=True)
LOST = Failure(FailureKind.LOST, "gone")
DONE = Done(FinishReason.STOP, "embedding-1")
GOOD = (Started(200, "req-1"), SEEN, Vectors(0, (VECTOR,)), Vectors(1, (VECTOR[::-1],)))


def test_vectors_are_paid_once_and_repeated_free() -> None:
    """Stored under the id: another replica gives the same, and no vendor is asked."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE]]
        one = await world.embed(world.replica("a"), "red", "blue")
        again = await world.embed(world.replica("b"), "red", "blue")
        assert one.vectors == again.vectors == (VECTOR, VECTOR[::-1])
        assert [type(each) for each in one.frames] == [Opened, VectorsDelta, Finished]
        assert one.finished.completion.vectors == ()
        assert one.finished == again.finished
        assert one.finished.completion.usage == USED
        (record,) = await world.ledger()
        assert record.usage == USED
        assert record.source is UsageSource.VENDOR
        assert record.end_state is EndState.COMPLETED
        assert record.model == "embedding-1"
        other = await world.embed(world.replica("b"), "red", "green")
        assert other.code is Code.CONFLICT
        conversation = await world.ask(world.replica("b"))
        assert conversation.code is Code.CONFLICT

    play(scene)


def test_large_answers_come_in_several_frames() -> None:
    """All vectors together may be larger than one message."""

    async def scene(world: World) -> None:
        large = tuple(bytes([n]) * (FRAME_VECTOR_BYTES_MAX // 3) for n in range(10))
        world.first.scripts = [[Started(200, None), SEEN, Vectors(0, large), DONE]]
        sink = await world.embed(world.replica("a"), *"abcdefghij")
        frames = [each for each in sink.frames if isinstance(each, VectorsDelta)]
        assert [each.first for each in frames] == [0, 3, 6, 9]
        assert sink.vectors == large

    play(scene)


def test_every_attempt_is_on_the_ledger() -> None:
    """Refusals are zero, a lost call is estimated by its texts; retried like any."""

    async def scene(world: World) -> None:
        world.first.scripts = [[LIMITED], [LOST], [*GOOD, DONE]]
        sink = await world.embed(world.replica("a"), "red", "blue")
        assert len(sink.vectors) == 2
        refused, lost, paid = await world.ledger()
        assert refused.usage.total == 0
        assert lost.source is UsageSource.ESTIMATED
        assert lost.usage == TokenUsage(input_tokens=2)
        assert paid.usage == USED
        assert len(sink.finished.completion.attempts) == 3

    play(scene)


def test_no_other_model_stands_in() -> None:
    """Vectors of two models cannot be compared, so an alias does not fall over."""

    async def scene(world: World) -> None:
        world.first.scripts = [[LOST], [LOST], [LOST]]
        sink = await world.embed(world.replica("a"), "red", model="smart")
        assert sink.code is Code.VENDOR_UNAVAILABLE
        assert world.second.attempts == []

    play(scene)


def test_a_dead_replica_s_attempt_is_recorded_and_taken_over() -> None:
    """A crash before the commit leaves one unknown attempt and one more call."""

    async def scene(world: World) -> None:
        dead, database = world.replica("a", Limits(commit_tries=2)), world.database

        def crash() -> None:
            world.database = database.reopen()

        world.first.scripts = [[*GOOD, crash, DONE], [*GOOD, DONE]]
        with contextlib.suppress(TransientFault):
            await world.embed(dead, "red", "blue")
        sink = await world.embed(world.replica("b"), "red", "blue")
        assert len(sink.vectors) == 2
        unknown, paid = await world.ledger()
        assert unknown.end_state is EndState.UNKNOWN
        assert unknown.usage == TokenUsage(input_tokens=2)
        assert paid.usage == USED

    play(scene)


def test_equal_texts_get_the_kept_vectors() -> None:
    """The cache of questions serves vectors too, for those who opt in."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE]]
        desk = world.replica("a")
        await world.embed(desk, "red", "blue", completion_id="1", cache_ttl_s=9)
        hit = await world.embed(desk, "red", "blue", completion_id="2", cache_ttl_s=9)
        assert hit.vectors == (VECTOR, VECTOR[::-1])
        assert hit.finished.completion.is_cached
        assert hit.finished.completion.usage == TokenUsage()
        assert len(await world.ledger()) == 1

    play(scene)


def test_a_tenant_s_own_key_is_used_for_vectors_too() -> None:
    """One routing for both: the record says whose key it was."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.keyed["key-of-acme"] = ScriptedVendor(world.clock, [[*GOOD, DONE]])
        await world.put_key(desk, "third", "key-of-acme")
        sink = await world.embed(desk, "red", "blue", model="third/model-3")
        assert len(sink.vectors) == 2
        (record,) = await world.ledger()
        assert record.own_key

    play(scene)
