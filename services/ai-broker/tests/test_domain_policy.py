"""Policies: who is preferred, in which order, and how ties and new ones are treated."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ai_broker.domain.latency import (
    FAILURE_S,
    SAMPLES_MIN,
    Latency,
    PeakEwma,
    load,
)
from ai_broker.domain.policy import Alias, Policy, Standing, ranked
from determinism import SeededIds

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DRAWS = st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=6)


def standings(
    weights: list[float] | None = None,
    costs: list[int | None] | None = None,
    loads: list[float] | None = None,
) -> list[Standing]:
    """Give three candidates."""
    found_w, found_c = weights or [1.0] * 3, costs or [None] * 3
    found_l = loads or [0.0] * len(found_w)
    return [
        Standing(f"v/m-{place}", *each)
        for place, each in enumerate(zip(found_w, found_c, found_l, strict=True))
    ]


@given(st.sampled_from(Policy), DRAWS, st.text(max_size=9), st.integers(1, 6))
def test_every_policy_orders_everybody(
    policy: Policy, draws: list[float], key: str, count: int
) -> None:
    """Nobody is dropped or asked twice, whatever is drawn."""
    asked = [Standing(f"v/m-{place}") for place in range(count)]
    assert sorted(ranked(policy, asked, key, draws)) == list(range(count))


def test_weights_are_frequencies() -> None:
    """First picks follow the weights; a weight of 0 is a last resort."""
    ids = SeededIds(11)
    asked = standings([3.0, 1.0, 0.0])
    firsts = Counter[int]()
    for _ in range(20_000):
        order = ranked(Policy.WEIGHTED, asked, "", [ids.uniform() for _ in asked])
        firsts[order[0]] += 1
        assert order[-1] == 2
    # Four standard deviations of 20 000 draws at 3/4 are 0.0123.
    assert abs(firsts[0] / 20_000 - 0.75) < 0.0123


def test_the_cheapest_comes_first_and_the_unknown_last() -> None:
    """An unknown price is never taken for a low one; ties go by the list."""
    cheapest = ranked(Policy.CHEAPEST, standings(costs=[None, 9, 5]), "", [0.0] * 3)
    assert cheapest == (2, 1, 0)
    assert ranked(Policy.CHEAPEST, standings(), "", [0.9] * 3) == (0, 1, 2)
    tie = ranked(Policy.CHEAPEST, standings(costs=[7, None, 7]), "", [0.9] * 3)
    assert tie == (0, 2, 1)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=6), DRAWS)
def test_the_fastest_is_never_the_worst_of_two(
    loads: list[float], draws: list[float]
) -> None:
    """Whatever is drawn, somebody listed is not better than both drawn ones' better."""
    asked = [Standing(f"v/m-{place}", load=each) for place, each in enumerate(loads)]
    order = ranked(Policy.FASTEST, asked, "", draws)
    one = int(draws[0] * len(loads))
    other = int(draws[1] * (len(loads) - 1))
    other += other >= one
    assert one != other
    assert loads[order[0]] == min(loads[one], loads[other])
    rest = [loads[place] for place in order[1:]]
    assert rest == sorted(rest)
    if len(set(loads)) == len(loads):
        assert loads[order[0]] < max(loads)


@given(st.sets(st.text(min_size=1, max_size=8), min_size=30, max_size=30))
def test_sticky_moves_only_those_who_must(users: set[str]) -> None:
    """When a candidate goes, only its own users move, each to the next of its order."""
    asked = standings()
    for user in users:
        before = ranked(Policy.STICKY, asked, user, [0.0] * 3)
        assert ranked(Policy.STICKY, asked, user, [0.5] * 3) == before
        without = ranked(Policy.STICKY, asked[:2], user, [0.0] * 2)
        assert [place for place in before if place != 2] == list(without)


def test_sticky_spreads_users() -> None:
    """Users are spread over candidates by weight."""
    asked = standings([1.0, 1.0, 2.0])
    firsts = Counter(
        ranked(Policy.STICKY, asked, f"user-{number}", [0.0] * 3)[0]
        for number in range(4_000)
    )
    assert abs(firsts[2] / 4_000 - 0.5) < 0.04
    assert abs(firsts[0] / 4_000 - 0.25) < 0.04


def test_a_new_candidate_is_tried_but_not_flooded() -> None:
    """What was never asked is free while idle, and dear while its first call is out."""
    known = PeakEwma().sampled(0.2, NOW)
    new = PeakEwma()
    assert load(new, 0, NOW) < load(known, 0, NOW)
    assert load(new, 1, NOW) > load(known, 50, NOW)
    assert load(known, 3, NOW) > load(known, 1, NOW)


def test_a_peak_rises_at_once_and_sinks_slowly() -> None:
    """One slow answer counts fully, one fast answer only in part; silence fades."""
    slow = PeakEwma().sampled(0.1, NOW).sampled(9.0, NOW)
    assert slow.now_s(NOW) == 9.0
    better = slow.sampled(0.1, NOW + timedelta(seconds=3))
    assert 7.0 < better.cost_s < 9.0
    assert slow.now_s(NOW + timedelta(seconds=300)) < 0.01


def test_failing_fast_is_not_being_fast() -> None:
    """A vendor that refuses in a millisecond counts as slow."""
    failed = Latency().failed(0.001, NOW)
    assert failed.first.now_s(NOW) == failed.whole.now_s(NOW) == FAILURE_S
    assert not failed.recent


def test_a_quantile_needs_samples() -> None:
    """With few samples nothing is claimed; then the 95th percentile is one of them."""
    latency = Latency()
    for number in range(SAMPLES_MIN - 1):
        latency = latency.began(float(number), NOW)
    assert latency.quantile_s(0.95) is None
    assert latency.began(99.0, NOW).quantile_s(0.95) == 99.0


def test_an_alias_is_a_list_or_says_how_to_choose() -> None:
    """Today's plain lists stay valid; a mistake says what would be right."""
    plain = Alias.model_validate(["a/m", "b/m"])
    assert [each.model for each in plain.models] == ["a/m", "b/m"]
    assert plain.policy is Policy.PRIORITY
    full = Alias.model_validate(
        {
            "policy": "weighted",
            "models": [{"model": "a/m", "weight": 3}, "b/m"],
            "hedge": {"after": "p95", "cost_ratio_max": 2},
        }
    )
    assert [each.weight for each in full.models] == [3, 1]
    for hedge in ({"after": "p95"}, {"cost_ratio_max": 2}, {"after_ms": 0}):
        with pytest.raises(ValidationError):
            Alias.model_validate({"models": ["a/m"], "hedge": hedge})
