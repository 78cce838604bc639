"""Rules draw by seed and request id, so that a schedule replays call by call."""

import asyncio
from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_line import Line

from sandbox.faults import Fault
from sandbox.payload import RequestRefused
from sandbox.rules import Call, parse_header, parse_rules

MIX: Final[dict[str, Any]] = {
    "seed": 7,
    "rate": 0.3,
    "faults": [
        "error_500",
        {"fault": "cut", "after_events": [0, 9], "weight": 3},
        {"fault": "rate_limited_429_ms", "delay_ms": 20},
    ],
}
IDS: Final = [f"attempt-{number}" for number in range(20_000)]


def call(request_id: str) -> Call:
    """Make a call that only its id tells from others."""
    return Call("openai", "sandbox-small", ["hi"], request_id)


def draw(mix: dict[str, Any], ids: list[str]) -> dict[str, Fault | None]:
    """Let one rule draw for these calls in this order."""
    (rule,) = parse_rules([{"mix": mix}])
    return {each: rule.pick(call(each)) for each in ids}


def test_a_schedule_replays_in_any_order() -> None:
    """20 000 calls get the same faults again, forwards or backwards."""
    first = draw(MIX, IDS)
    assert draw(MIX, IDS[::-1]) == first
    assert draw({**MIX, "seed": 8}, IDS) != first


def test_a_mix_keeps_its_rate_and_weights() -> None:
    """Three of ten calls are hit, three of five of those by the heavy fault."""
    hits = [fault for fault in draw(MIX, IDS).values() if fault]
    assert 0.28 < len(hits) / len(IDS) < 0.32
    names = Counter(fault.name for fault in hits)
    assert 0.55 < names["cut"] / len(hits) < 0.65
    places = Counter(fault.after_events for fault in hits if fault.name == "cut")
    assert set(places) == set(range(10))


@given(seed=st.integers(0, 2**32), rates=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_higher_rate_only_adds_hits(seed: int, rates: tuple[float, float]) -> None:
    """Who is hit at a low rate is hit by the same fault at a higher one."""
    low, high = (
        draw({**MIX, "seed": seed, "rate": rate}, IDS[:40]) for rate in sorted(rates)
    )
    assert all(high[each] == fault for each, fault in low.items() if fault)


async def test_concurrency_does_not_change_the_schedule(line: Line) -> None:
    """The server hits the same ids one after the other and all at once."""
    ids = IDS[:40]
    mix = {**MIX, "faults": ["error_500", "overloaded_529"]}
    expected = {
        name: fault.name if fault else "" for name, fault in draw(mix, ids).items()
    }
    for at_once in (1, 20):
        await line.faults({"mix": mix})
        gate = asyncio.Semaphore(at_once)

        async def ask(name: str, gate: asyncio.Semaphore = gate) -> None:
            async with gate:
                await line.call("openai", text="hi", request_id=name)

        await asyncio.gather(*(ask(name) for name in ids))
        rows = await line.rows(len(ids))
        assert {row["client_request_id"]: row["fault"] for row in rows} == expected
        async with line.control.delete("/sandbox/ledger"):
            pass


def test_a_mix_by_prompt_replays_whatever_the_ids_are() -> None:
    """What a prompt meets at its first, second, … call is the same in every run."""

    def play(run: str) -> list[str]:
        (rule,) = parse_rules([{"mix": {**MIX, "by": "prompt"}}])
        calls = [
            Call(
                "openai", "sandbox-small", (f"prompt {number % 50}",), f"{run}{number}"
            )
            for number in range(200)
        ]
        picked = [rule.pick(call) for call in calls]
        return [fault.name if fault else "" for fault in picked]

    first = play("a")
    assert first == play("b")
    assert first[:50] != first[50:100]


def test_a_mix_can_be_matched_and_counted() -> None:
    """It hits only whom it matches, and only so often."""
    (rule,) = parse_rules(
        [{"mix": {"faults": ["cut"]}, "match": {"model": "sandbox-large"}, "count": 1}]
    )
    other = Call("openai", "sandbox-large", [], "a")
    assert rule.pick(call("a")) is None
    assert rule.pick(other) == Fault("cut")
    assert rule.pick(other) is None


def test_a_header_names_place_and_numbers() -> None:
    """The same fields as in a rule, for one call."""
    assert parse_header("cut; at=end") == parse_rules([{"fault": "cut", "at": "end"}])[
        0
    ].pick(call(""))
    assert parse_header("usage_wrong;percent=7").percent == 7


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"fault": "cut", "after": 3}, "unknown 'after'"),
        ({"fault": "cut", "at": "middle"}, "'at' is start or end"),
        ({"fault": "cut", "after_events": "3"}, "whole number"),
        ({"fault": "cut", "probability": 2}, "from 0 to 1"),
        ({"fault": "cut", "match": {"text": "x"}}, "unknown 'text'"),
        ({"mix": {"faults": []}}, "at least one fault"),
        ({"mix": {"faults": ["explode"]}}, "unknown fault 'explode'"),
        ({"mix": {"faults": ["cut"], "odds": 1}}, "unknown 'odds'"),
        ({"mix": {"faults": ["cut"], "by": "luck"}}, "request or prompt"),
        ({"mix": {"faults": [{"fault": "cut", "after_events": [9, 1]}]}}, "from, to"),
    ],
)
def test_a_malformed_rule_says_what_is_wrong(rule: dict[str, Any], words: str) -> None:
    """A typing mistake must not pass for a rule that never hits."""
    with pytest.raises(RequestRefused, match=words):
        parse_rules([rule])
