"""Who is asked next, and when nobody is."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.routing import (
    CALLS_MAX,
    CALLS_PER_CANDIDATE,
    Call,
    GiveUp,
    Outlook,
    Tried,
    hedge_move,
    next_move,
    patience_s,
)
from ai_broker.domain.vendor import Failure, FailureKind
from ai_broker.domain.verdict import Again, Elsewhere, Nowhere, Spent, Unfit, Verdict
from contracts.problems import Code

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TWO = (Candidate("first", "m"), Candidate("second", "m"))
WELL = (Outlook(), Outlook())
MINUTE = NOW + timedelta(seconds=60)


def refused(
    status: int, code: str | None = None, headers: Mapping[str, str] | None = None
) -> Failure:
    """Give an answer with an error status."""
    return Failure(FailureKind.REFUSED, "no", status, code, headers or {})


def tried(candidate: int, verdict: Verdict, ago_s: float = 0.0) -> Tried:
    """Give a failed call that ended a while ago."""
    return Tried(candidate, NOW - timedelta(seconds=ago_s), verdict, refused(500))


@pytest.mark.parametrize(
    ("history", "call"),
    [
        ([tried(0, Again(0.5))], Call(0, 0.5)),
        ([tried(0, Again(5.0))], Call(1, 0.0)),
        ([tried(0, Elsewhere())], Call(1, 0.0)),
        ([tried(0, Again(5.0)), tried(1, Again(30.0))], Call(0, 5.0)),
        ([tried(0, Again(5.0), 4.0), tried(1, Again(9.0))], Call(0, 1.0)),
        ([tried(0, Again(0.5))] * CALLS_PER_CANDIDATE, Call(1, 0.0)),
    ],
)
def test_the_next_call_goes_to_whoever_is_ready_first(
    history: list[Tried], call: Call
) -> None:
    """A short pause beats a step down the list, a long one does not."""
    deadline = NOW + timedelta(seconds=60)
    found = next_move(TWO, WELL, history, NOW, deadline, delivered=False)
    assert found == call


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.one_of(
                st.builds(Again, st.floats(0, 200)),
                st.just(Elsewhere()),
                st.just(Nowhere(Code.INVALID)),
            ),
        ),
        min_size=1,
        max_size=12,
    ),
    st.floats(0, 100),
    st.booleans(),
)
def test_every_move_is_allowed(
    history: list[tuple[int, Verdict]],
    left_s: float,
    delivered: bool,  # noqa: FBT001 -- Hypothesis draws it
) -> None:
    """Never past the deadline, the bounds, delivered content or a final no."""
    failures = [tried(*each) for each in history]
    deadline = NOW + timedelta(seconds=left_s)
    move = next_move(TWO, WELL, failures, NOW, deadline, delivered=delivered)
    if isinstance(move, GiveUp):
        assert move.detail
        return
    assert not delivered
    assert len(failures) < CALLS_MAX
    assert move.delay_s < left_s
    mine = [verdict for candidate, verdict in history if candidate == move.candidate]
    assert len(mine) < CALLS_PER_CANDIDATE
    assert not mine or isinstance(mine[-1], Again)
    assert not isinstance(history[-1][1], Nowhere)


@pytest.mark.parametrize(
    ("outlooks", "call"),
    [
        ((Outlook(refused_for_s=0.1), Outlook()), Call(1, 0.0)),
        ((Outlook(refused_for_s=0.1), Outlook(ready_in_s=9.0)), Call(1, 9.0)),
        ((Outlook(refused_for_s=3), Outlook(refused_for_s=9)), Call(0, 3)),
        ((Outlook(refused_for_s=9), Outlook(refused_for_s=3)), Call(1, 3)),
        ((Outlook(refused_for_s=9), Outlook(ready_in_s=99)), Call(0, 9)),
        ((Outlook(ready_in_s=0.5), Outlook()), Call(0, 0.5)),
        ((Outlook(ready_in_s=5), Outlook()), Call(1, 0.0)),
        ((Outlook(spent_for_s=600), Outlook(ready_in_s=5)), Call(1, 5)),
        ((Outlook(first_token_s=200), Outlook(ready_in_s=2)), Call(0, 0)),
    ],
)
def test_what_is_known_of_a_candidate_counts(
    outlooks: tuple[Outlook, Outlook], call: Call
) -> None:
    """Breakers before all, then paces; a slow candidate may still be the first."""
    assert next_move(TWO, outlooks, (), NOW, MINUTE, delivered=False) == call


def test_a_retry_that_cannot_end_in_time_is_not_begun() -> None:
    """After a failure the time left must be enough for a first token at least."""
    slow = (Outlook(first_token_s=200), Outlook(first_token_s=10))
    failed = [tried(0, Again(0.0))]
    assert next_move(TWO, slow, failed, NOW, MINUTE, delivered=False) == Call(1, 0)
    late = NOW + timedelta(seconds=4)
    move = next_move(TWO, slow, failed, NOW, late, delivered=False)
    assert isinstance(move, GiveUp)
    assert move.retryable


_OUTLOOKS = st.builds(
    Outlook,
    ready_in_s=st.floats(0, 100),
    refused_for_s=st.none() | st.floats(0.01, 100),
    spent_for_s=st.none() | st.floats(0.01, 600),
)


@given(st.lists(_OUTLOOKS, min_size=1, max_size=5), st.floats(0.1, 90))
def test_an_open_breaker_waits_while_another_can_answer(
    outlooks: list[Outlook], left_s: float
) -> None:
    """A candidate whose breaker refuses is only chosen when no other is usable."""
    candidates = [Candidate("v", f"m-{place}") for place in range(len(outlooks))]
    deadline = NOW + timedelta(seconds=left_s)
    move = next_move(candidates, outlooks, (), NOW, deadline, delivered=False)
    left_s = (deadline - NOW).total_seconds()
    usable = [
        each
        for each in outlooks
        if each.refused_for_s is None
        and each.spent_for_s is None
        and each.ready_in_s < left_s
    ]
    if isinstance(move, GiveUp):
        assert not usable
        return
    chosen = outlooks[move.candidate]
    assert chosen.spent_for_s is None
    assert move.delay_s < left_s
    if usable:
        assert chosen.refused_for_s is None
    else:
        assert chosen.refused_for_s is not None
        assert move.delay_s >= chosen.refused_for_s - 0.001


@pytest.mark.parametrize(
    ("outlook", "code", "retryable"),
    [
        (Outlook(refused_for_s=80), Code.UNAVAILABLE, True),
        (Outlook(ready_in_s=80), Code.OVERLOADED, True),
        (Outlook(spent_for_s=80), Code.VENDOR_UNAVAILABLE, False),
    ],
)
def test_a_refusal_says_why_and_when_to_come_back(
    outlook: Outlook,
    code: Code,
    retryable: bool,  # noqa: FBT001 -- a table's column
) -> None:
    """With nobody to ask in time the caller gets the reason and a hint."""
    move = next_move(TWO, (outlook, outlook), (), NOW, MINUTE, delivered=False)
    assert isinstance(move, GiveUp)
    assert (move.code, move.retryable, move.retry_after_s) == (code, retryable, 80)


def test_nobody_waits_long_for_a_breaker() -> None:
    """However much time there is: callers would pile up behind a dark vendor."""
    soon, late = Outlook(refused_for_s=9), Outlook(refused_for_s=11)
    move = next_move(TWO, (late, soon), (), NOW, MINUTE, delivered=False)
    assert move == Call(1, 9)
    move = next_move(TWO, (late, soon), (), NOW, MINUTE, delivered=False, waited_s=2.0)
    assert isinstance(move, GiveUp)
    move = next_move(TWO, (late, late), (), NOW, MINUTE, delivered=False)
    assert isinstance(move, GiveUp)
    assert (move.code, move.retry_after_s) == (Code.UNAVAILABLE, 11)


def test_a_prompt_too_large_goes_to_a_larger_window_only() -> None:
    """After a window was too small, only larger or unknown ones are asked."""
    sizes = (8_000, 8_000, 4_000, 200_000)
    candidates = [
        Candidate("v", f"m-{size}-{place}", context_tokens=size)
        for place, size in enumerate(sizes)
    ]
    outlooks = [Outlook()] * len(sizes)
    first = tried(0, Unfit(is_too_large=True))
    move = next_move(candidates, outlooks, [first], NOW, MINUTE, delivered=False)
    assert move == Call(3, 0.0)
    history = [first, tried(3, Unfit(is_too_large=True))]
    move = next_move(candidates, outlooks, history, NOW, MINUTE, delivered=False)
    assert isinstance(move, GiveUp)
    assert move.code is Code.INVALID
    assert not move.retryable


def test_an_exhausted_account_is_not_worth_a_retry() -> None:
    """When every account is exhausted the caller is told not to insist."""
    history = [tried(0, Spent()), tried(1, Spent())]
    move = next_move(TWO, WELL, history, NOW, MINUTE, delivered=False)
    assert isinstance(move, GiveUp)
    assert (move.code, move.retryable) == (Code.VENDOR_UNAVAILABLE, False)


def test_a_hedge_goes_to_who_is_free_and_affordable() -> None:
    """Neither twice to one candidate, nor to one that has to wait or is too dear."""
    free = (Outlook(), Outlook())

    def hedge(outlooks: tuple[Outlook, ...], *, may: bool = True) -> Call | None:
        return hedge_move(TWO, outlooks, (), {0}, NOW, lambda _: may)

    assert hedge(free) == Call(1, 0.0)
    assert hedge(free, may=False) is None
    assert hedge((Outlook(), Outlook(ready_in_s=1))) is None
    assert hedge((Outlook(), Outlook(refused_for_s=1))) is None
    assert hedge_move(TWO, free, [tried(1, Again(0))], {0}, NOW, bool) is None


@pytest.mark.parametrize(
    ("own_s", "usual_s", "others", "limit_s"),
    [
        (None, None, False, None),
        (None, 1.0, False, None),
        (7.0, 1.0, False, 7.0),
        (7.0, 1.0, True, 7.0),
        (None, 1.5, True, 4.5),
        (None, 0.1, True, 2.0),
        (None, None, True, 30.0),
        (50.0, None, True, 30.0),
    ],
)
def test_patience_leaves_time_for_the_next(
    own_s: float | None,
    usual_s: float | None,
    others: bool,  # noqa: FBT001 -- a table's column
    limit_s: float | None,
) -> None:
    """A silent candidate keeps at most half of the time while another could use it."""
    candidate = Candidate("v", "m", first_token_s=own_s)
    assert patience_s(candidate, usual_s, 60.0, others=others) == limit_s
