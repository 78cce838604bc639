import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ai_broker.domain import quota
from ai_broker.domain.quota import WINDOW_US, Bound
from ai_broker.domain.rate_book import RateBook, RateDocument, RateRule
from contracts.budgets import ScopeKind
from contracts.completions import ChatTurn, CompletionRequest, Role, TextPart
from contracts.rates import Measure
from determinism import SystemClock

LIMITS = st.integers(1, 100_000)


def bound(measure: Measure, limit: int, cost: int = 1) -> Bound:
    """Return a limit of acme's."""
    return Bound("acme", ScopeKind.TENANT, "acme", measure, limit, cost)


def request(**changes: object) -> CompletionRequest:
    """Return a question of Ada's by a key of acme's."""
    asked: dict[str, object] = {
        "completion_id": "c1",
        "tenant": "acme",
        "user": "ada",
        "api_key_id": "k1",
        "model": "smart",
        "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text="Greet me"),)),),
        "deadline": SystemClock().now(),
    }
    return CompletionRequest.model_validate(asked | changes)


@given(LIMITS)
def test_exactly_a_minutes_worth_is_there_at_once(limit: int) -> None:
    """And what is said to be left is what can still be had, at every step."""
    each = bound(Measure.REQUESTS, limit)
    taken, left = 0, limit
    for _ in range(min(limit, 50)):
        verdict = quota.decide([each], [taken])
        assert verdict.refused_by is None
        left -= 1
        assert verdict.standings[0].left == left
        taken = quota.with_call(each, taken)
    full = quota.spread_us(limit, limit)
    assert quota.decide([each], [full]).refused_by == each


@given(LIMITS, st.integers(1, 300_000), st.integers(0, 10 * WINDOW_US))
def test_whoever_waits_as_long_as_told_is_let_in(
    limit: int, cost: int, taken: int
) -> None:
    """A wait is enough, and a microsecond less is not."""
    each = bound(Measure.TOKENS, limit, cost)
    wait_us = quota.decide([each], [taken]).wait_us
    assert quota.wait_us(each, max(0, taken - wait_us)) == 0
    if wait_us:
        assert quota.wait_us(each, taken - wait_us + 1) > 0


@given(
    limit=st.integers(1, 1_000),
    calls=st.lists(
        st.tuples(st.integers(0, 9_000_000), st.integers(1, 50), st.integers(0, 100)),
        max_size=60,
    ),
)
def test_what_is_used_keeps_to_the_pace(
    limit: int, calls: list[tuple[int, int, int]]
) -> None:
    """
    Estimates may be wrong: over any time, what was really used is the limit's share.

    Beside it there is one minute's worth, and what the last call took too much.
    """
    until_us = now_us = used = last = 0
    for pause_us, cost, real in calls:
        now_us += pause_us
        each = bound(Measure.TOKENS, limit, cost)
        ahead_us = max(0, until_us - now_us)
        if quota.decide([each], [ahead_us]).refused_by is None:
            until_us = now_us + ahead_us + each.spread_us
            until_us = max(until_us, now_us) + quota.correction_us(each, real)
            used, last = used + real, max(cost, real)
            share = limit * (now_us + WINDOW_US) / WINDOW_US
            # A microsecond is lost by each rounding.
            assert used <= share + last + len(calls) * limit / WINDOW_US


def test_the_longest_wait_of_all_limits_is_told() -> None:
    """Coming back for the first one would only meet the next."""
    bounds = (
        bound(Measure.CONCURRENT, 1),
        bound(Measure.REQUESTS, 60),
        bound(Measure.TOKENS, 600, 10),
    )
    verdict = quota.decide(bounds, [1, WINDOW_US, WINDOW_US + 4_000_000])
    assert verdict.refused_by == bounds[2]
    assert verdict.wait_us == 5_000_000
    assert [each.left for each in verdict.standings] == [0, 0, 0]
    assert [each.resets_in_s for each in verdict.standings] == [1, 1, 5]


def test_the_most_particular_rule_counts_alone() -> None:
    """A user's own rule beats its tenant's for all users, which beats everybody's."""
    book = RateBook(
        (
            RateRule(scope=ScopeKind.USER, requests_per_minute=1, concurrent=9),
            RateRule(scope=ScopeKind.USER, tenant="acme", requests_per_minute=2),
            RateRule(
                scope=ScopeKind.USER, tenant="acme", id="ada", tokens_per_minute=3
            ),
            RateRule(scope=ScopeKind.USER, tenant="lifted", unlimited=True),
        )
    )
    (ada,) = book.bounds(request(), lambda: 7)
    assert (ada.measure, ada.limit, ada.cost) == (Measure.TOKENS, 3, 7)
    (bob,) = book.bounds(request(user="bob"), lambda: 7)
    assert (bob.measure, bob.limit, bob.cost) == (Measure.REQUESTS, 2, 1)
    others = book.bounds(request(tenant="globex"), lambda: 7)
    assert [each.limit for each in others] == [1, 9]
    assert book.bounds(request(tenant="lifted"), lambda: 7) == ()
    assert book.bounds(request(user=None), lambda: 7) == ()


def test_tokens_are_estimated_only_where_they_are_limited() -> None:
    """An estimate reads the whole prompt: it is made once, and for nobody else."""
    asked: list[str] = []

    def estimate() -> int:
        asked.append("once")
        return 5

    requests = RateRule(scope=ScopeKind.API_KEY, requests_per_minute=1)
    tokens = [
        RateRule(scope=kind, tokens_per_minute=10)
        for kind in (ScopeKind.USER, ScopeKind.TENANT)
    ]
    assert RateBook().bounds(request(), estimate) == ()
    assert len(RateBook([requests]).bounds(request(), estimate)) == 1
    assert asked == []
    found = RateBook([requests, *tokens]).bounds(request(), estimate)
    assert [each.cost for each in found] == [1, 5, 5]
    assert asked == ["once"]


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_limits_are_counted_apart(one: str, other: str) -> None:
    """No name, however odd, is counted with another or leaves its tenant's slot."""
    keys = {
        Bound(tenant, kind, of, measure, 1).key
        for tenant in ("acme", "globex")
        for kind in ScopeKind
        for of in (one, other)
        for measure in Measure
    }
    assert len(keys) == 2 * len(ScopeKind) * len({one, other}) * len(Measure)
    assert {key[key.index("{") : key.index("}") + 1] for key in keys} == {
        "{acme}",
        "{globex}",
    }


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"scope": "user", "id": "ada", "concurrent": 1}, "id needs the tenant"),
        ({"scope": "tenant", "tenant": "a", "id": "b", "concurrent": 1}, "no id"),
        ({"scope": "user"}, "needs requests_per_minute"),
        ({"scope": "user", "unlimited": True, "concurrent": 1}, "or else"),
        ({"scope": "user", "requests_per_minute": 0}, "greater than or equal to 1"),
        ({"scope": "user", "request_per_minute": 1}, "not permitted"),
        ({"scope": "planet", "concurrent": 1}, "'tenant', 'team'"),
    ],
)
def test_a_mistaken_rule_is_refused(rule: dict[str, object], said: str) -> None:
    """What an operator may have meant is not guessed."""
    with pytest.raises(ValidationError, match=said):
        RateRule.model_validate(rule)


def test_two_rules_for_the_same_are_refused() -> None:
    """Neither would be seen to be without effect."""
    rule = {"scope": "user", "tenant": "acme", "concurrent": 1}
    with pytest.raises(ValidationError, match="2 rules are for user acme"):
        RateDocument.model_validate({"rules": [rule, {**rule, "concurrent": 2}]})
