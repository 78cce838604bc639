"""The retry contract and the choice of who is asked next."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.routing import (
    CALLS_MAX,
    CALLS_PER_CANDIDATE,
    Again,
    Call,
    Elsewhere,
    GiveUp,
    Nowhere,
    Tried,
    Verdict,
    judge,
    next_move,
    retry_after_s,
)
from ai_broker.domain.vendor import Failure, FailureKind
from contracts.problems import Code

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TWO = (Candidate("first", "m"), Candidate("second", "m"))


def refused(
    status: int, code: str | None = None, headers: Mapping[str, str] | None = None
) -> Failure:
    """Give an answer with an error status."""
    return Failure(FailureKind.REFUSED, "no", status, code, headers or {})


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [
        (refused(408), Again(0.5)),
        (refused(409), Again(0.5)),
        (refused(429), Again(0.5)),
        (refused(500), Again(0.5)),
        (refused(529), Again(0.5)),
        (refused(400), Nowhere(Code.INVALID)),
        (refused(413), Nowhere(Code.INVALID)),
        (refused(400, "content_filter"), Nowhere(Code.VENDOR_REFUSED)),
        (refused(401), Elsewhere()),
        (refused(404), Elsewhere()),
        (refused(429, "enforced_spend_limit_reached"), Elsewhere()),
        (refused(429, "insufficient_quota"), Elsewhere()),
        (refused(500, None, {"x-should-retry": "false"}), Elsewhere()),
        (refused(400, None, {"x-should-retry": "true"}), Again(0.5)),
        (refused(429, None, {"retry-after": "3"}), Again(3.0)),
        (
            refused(429, None, {"retry-after-ms": "250", "retry-after": "3"}),
            Again(0.25),
        ),
        (
            refused(429, None, {"retry-after": "Fri, 01 May 2026 12:00:09 GMT"}),
            Again(9),
        ),
        (refused(429, None, {"retry-after": "3600"}), Elsewhere()),
        (refused(429, None, {"retry-after": "soon"}), Again(0.5)),
        (Failure(FailureKind.UNREACHED, "x"), Again(0.5)),
        (Failure(FailureKind.CUT, "x"), Again(0.5)),
        (Failure(FailureKind.REPORTED, "x", 529), Again(0.5)),
        (Failure(FailureKind.REPORTED, "x", 400), Nowhere(Code.INVALID)),
    ],
)
def test_the_verdict_is_the_sdks(failure: Failure, verdict: Verdict) -> None:
    """What the vendors' own SDKs would retry is retried, after the same wait."""
    assert judge(failure, 0, 0.0, NOW) == verdict


@given(st.integers(0, 50), st.floats(0, 1, exclude_max=True))
def test_backoff_grows_within_bounds(before: int, draw: float) -> None:
    """0.5·2ⁿ up to 8 s, less at most a quarter."""
    verdict = judge(refused(500), before, draw, NOW)
    assert isinstance(verdict, Again)
    whole = min(0.5 * 2.0**before, 8.0)
    assert 0.75 * whole <= verdict.delay_s <= whole


@given(st.text(), st.text())
def test_no_header_breaks_the_judge(milliseconds: str, seconds: str) -> None:
    """Whatever a vendor writes, a number or nothing is read."""
    headers = {"retry-after-ms": milliseconds, "retry-after": seconds}
    found = retry_after_s(headers, NOW)
    assert found is None or isinstance(found, float)
    judge(refused(429, None, headers), 0, 0.5, NOW)


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
    assert next_move(TWO, history, NOW, deadline, delivered=False) == call


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
    move = next_move(TWO, failures, NOW, deadline, delivered=delivered)
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
