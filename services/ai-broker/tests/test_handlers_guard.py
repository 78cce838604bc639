"""Vendors never see personal data; callers get it back, however the answer comes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from broker_world import DONE, SEEN, Act, ScriptedVendor, Sink, World, play

from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.guard.policy import GuardBook
from ai_broker.domain.vendor import (
    Failure,
    FailureKind,
    Prepared,
    Started,
    Text,
    ToolCallPiece,
    Vectors,
)
from ai_broker.handlers import Desk
from contracts.completions import CompletionRequest, TextPart, ToolCallPart
from contracts.frames import TextDelta, ToolCallDelta
from contracts.problems import Code

MAIL, PHONE = "zhang.san@example.com", "13812345678"
PARTS = [{"kind": "text", "text": f"请回复{MAIL}或{PHONE}"}]
TURNS = {"turns": [{"role": "user", "parts": PARTS}]}
SPLIT: Sequence[Act] = [
    Started(200, None),
    Text(0, "Sent to <EMA"),
    5.0,
    Text(0, "IL_1> <"),
    Text(0, "b>"),
    ToolCallPiece(1, "c", "call", '{"n":"<PHO'),
    ToolCallPiece(1, arguments='NE_1>"}'),
    SEEN,
    DONE,
]


@dataclass
class Recording(ScriptedVendor):
    """Keeps what it was asked."""

    asked: list[CompletionRequest] = field(default_factory=list[CompletionRequest])

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        self.asked.append(request)
        return super().prepare(request, candidate)


def restoring(world: World, **policy: object) -> tuple[Desk, Recording]:
    """Give a replica that guards acme, and the vendor that it asks."""
    vendor = world.first = Recording(world.clock)
    asked = {"tenants": {"acme": {"mode": "mask-and-restore"} | policy}}
    deps = replace(world.replica("a").deps, guards=GuardBook.model_validate(asked))
    return Desk(deps), vendor


def test_the_vendor_sees_placeholders_and_the_caller_values() -> None:
    """Streamed, joined late, stored and replayed: every way home is restored."""

    async def scene(world: World) -> None:
        desk, vendor = restoring(world)
        vendor.scripts = [SPLIT]

        async def later() -> Sink:
            await world.clock.sleep(2)
            return await world.ask(desk, **TURNS)

        first, joined = await asyncio.gather(world.ask(desk, **TURNS), later())
        replayed = await world.ask(desk, **TURNS)
        (part,) = vendor.asked[0].turns[0].parts
        assert part == TextPart(text="请回复<EMAIL_1>或<PHONE_1>")
        expected = (
            TextPart(text=f"Sent to {MAIL} <b>"),
            ToolCallPart(call_id="c", name="call", arguments=f'{{"n":"{PHONE}"}}'),
        )
        for sink in (first, joined, replayed):
            assert sink.finished.completion.parts == expected
            assert sink.text == f"Sent to {MAIL} <b>"
            calls = [each for each in sink.frames if isinstance(each, ToolCallDelta)]
            assert "".join(each.arguments for each in calls) == f'{{"n":"{PHONE}"}}'
        assert len(vendor.attempts) == 1

    play(scene)


def test_other_tenants_are_not_touched() -> None:
    """Who asked for nothing gets nothing masked."""

    async def scene(world: World) -> None:
        desk, vendor = restoring(world)
        vendor.scripts = [SPLIT]
        sink = await world.ask(desk, tenant="globex", **TURNS)
        assert vendor.asked[0].turns == world.request(**TURNS).turns
        assert "<EMAIL_1>" in sink.text

    play(scene)


def test_texts_to_be_embedded_are_masked() -> None:
    """Vectors are made of placeholders."""

    async def scene(world: World) -> None:
        desk, vendor = restoring(world)
        vector = Vectors(0, (bytes(16),))
        vendor.scripts = [[Started(200, None), SEEN, vector, DONE]]
        sink = await world.embed(desk, f"write to {MAIL}")
        assert sink.vectors == (bytes(16),)
        (part,) = vendor.asked[0].turns[0].parts
        assert part == TextPart(text="write to <EMAIL_1>")

    play(scene)


def test_a_repeat_is_the_same_question_whatever_the_guard() -> None:
    """A policy that changes between two asks does not make a conflict."""

    async def scene(world: World) -> None:
        desk, vendor = restoring(world)
        vendor.scripts = [SPLIT]
        await world.ask(desk, **TURNS)
        again = await world.ask(world.replica("b"), **TURNS)
        assert again.text == f"Sent to {MAIL} <b>"

    play(scene)


def test_a_cut_answer_ends_without_half_a_placeholder() -> None:
    """What was held back when the vendor broke off is never told."""

    async def scene(world: World) -> None:
        desk, vendor = restoring(world)
        cut = Failure(FailureKind.CUT, "broke off")
        vendor.scripts = [[Text(0, "Sent to "), Text(0, "<EMAI"), cut]]
        sink = await world.ask(desk, **TURNS)
        assert sink.code is Code.STREAM_CUT
        told = [each.text for each in sink.frames if isinstance(each, TextDelta)]
        assert told == ["Sent to "]

    play(scene)


def test_a_failed_attempts_rest_does_not_reach_the_next_answer() -> None:
    """Each call starts with nothing held back."""

    async def scene(world: World) -> None:
        desk, vendor = restoring(world)
        lost = Failure(FailureKind.CUT, "broke off")
        vendor.scripts = [[Text(0, "<EMAI"), lost], [Text(0, "L_1>"), SEEN, DONE]]
        sink = await world.ask(desk, **TURNS)
        assert sink.text == "L_1>"

    play(scene)


def test_an_image_is_refused_unpaid_where_binaries_may_not_leave() -> None:
    """The refusal names the part and says what to do."""

    async def scene(world: World) -> None:
        desk, vendor = restoring(world, binaries="refuse")
        image = {"kind": "image", "media_type": "image/png", "data": "AA=="}
        sink = await world.ask(desk, turns=[{"role": "user", "parts": [image]}])
        assert sink.code is Code.INVALID
        assert "turns[0].parts[0]" in sink.failed.error.problem.detail
        assert vendor.attempts == []
        assert await world.ledger() == []

    play(scene)
