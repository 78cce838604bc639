"""Pacing: what a vendor tells of its limits decides what is sent, and when."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain.pacing import (
    Kind,
    Pace,
    blocked,
    limited,
    ready_in_s,
    reset_in_s,
    sent,
    told,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def later(seconds: float) -> datetime:
    """Give a time after the beginning."""
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("6m0s", 360.0),
        ("1s", 1.0),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723.0),
        ("7.5", 7.5),
        ("2026-05-01T12:00:30Z", 30.0),
        ("2026-05-01T13:00:30+01:00", 30.0),
        ("", None),
        ("soon", None),
    ],
)
def test_every_vendor_s_way_to_write_a_reset_is_read(
    text: str, seconds: float | None
) -> None:
    """Durations as OpenAI writes them, instants as Anthropic does."""
    assert reset_in_s(text, NOW) == seconds


def openai(remaining: int, reset: str = "60s", limit: int = 60) -> dict[str, str]:
    """Give OpenAI's headers of the request limit."""
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(remaining),
        "x-ratelimit-reset-requests": reset,
    }


def test_an_empty_window_is_waited_for_as_far_as_needed() -> None:
    """A bucket that is full again in a minute has one request left in a second."""
    pace = told(sent(Pace(), 10, NOW), 10, openai(0), NOW)
    assert ready_in_s(pace, 10, NOW) == pytest.approx(1.0)
    assert ready_in_s(pace, 10, later(0.4)) == pytest.approx(0.6)
    assert ready_in_s(pace, 10, later(1)) == 0


def test_what_is_on_its_way_is_taken_off() -> None:
    """A count that the vendor made before it saw a call does not count that call."""
    pace = sent(sent(sent(Pace(), 10, NOW), 10, NOW), 10, NOW)
    pace = told(pace, 10, openai(2), NOW)
    assert ready_in_s(pace, 10, NOW) > 0, "two are left, and two are on their way"
    one = told(pace, 10, {}, NOW)
    assert one.calls == 1
    assert ready_in_s(told(one, 10, openai(1), NOW), 10, NOW) == 0


def test_anthropic_counts_input_tokens_apart() -> None:
    """A prompt waits until the input window has room for it."""
    headers = {
        "anthropic-ratelimit-input-tokens-limit": "1000",
        "anthropic-ratelimit-input-tokens-remaining": "100",
        "anthropic-ratelimit-input-tokens-reset": "2026-05-01T12:01:30Z",
    }
    pace = told(Pace(), 0, headers, NOW)
    assert ready_in_s(pace, 100, NOW) == 0
    assert ready_in_s(pace, 400, NOW) == pytest.approx(30.0)
    assert ready_in_s(pace, 9_000, NOW) == pytest.approx(90.0), "all that it can have"


@pytest.mark.parametrize(
    ("limit", "remaining", "reset"),
    [
        ("-1", "0", ""),
        ("0", "0", ""),
        ("60", "-1", "1s"),
        ("60", "", "1s"),
        ("nan", "1", "1s"),
        ("inf", "1", "1s"),
        ("many", "few", "later"),
    ],
)
def test_a_limit_without_sense_is_unknown(
    limit: str, remaining: str, reset: str
) -> None:
    """Azure's -1 and 0 hold nobody back; the catalogue's limit stands."""
    headers = {
        "x-ratelimit-limit-requests": limit,
        "x-ratelimit-remaining-requests": remaining,
        "x-ratelimit-reset-requests": reset,
    }
    assert ready_in_s(told(Pace(), 0, headers, NOW), 1, NOW) == 0
    pace = sent(limited(1, None, NOW), 0, NOW)
    assert ready_in_s(told(pace, 0, headers, NOW), 1, NOW) == pytest.approx(60.0)


def test_the_vendor_s_word_replaces_the_catalogue_s() -> None:
    """A limit from the catalogue holds until a header tells better."""
    pace = sent(limited(1, None, NOW), 0, NOW)
    assert ready_in_s(told(pace, 0, openai(50), NOW), 0, NOW) == 0


def test_a_refusal_closes_the_way_for_everybody() -> None:
    """The longest block stands, and it ends by itself."""
    pace = blocked(blocked(Pace(), 5, NOW), 1, NOW)
    assert ready_in_s(pace, 0, NOW) == 5
    assert ready_in_s(pace, 0, later(5)) == 0


@given(
    st.integers(1, 1_000),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50)), max_size=60),
)
def test_no_more_leaves_than_the_limit_allows(
    per_minute: int, asks: list[tuple[float, int]]
) -> None:
    """Obeying the wait keeps every span within its limit and one burst."""
    pace, at_s, left = limited(per_minute, None, NOW), 0.0, list[float]()
    for gap_s, tokens in asks:
        at_s += gap_s
        at_s += ready_in_s(pace, tokens, later(at_s)) + 1e-6
        pace = sent(pace, tokens, later(at_s))
        left.append(at_s)
    for first in range(len(left)):
        for last in range(first, len(left)):
            span_s = left[last] - left[first]
            allowed = per_minute * (1 + span_s / 60)
            assert last - first + 1 <= allowed + 1 + 1e-3


@given(st.dictionaries(st.sampled_from(Kind), st.tuples(*[st.text(max_size=20)] * 3)))
def test_no_header_breaks_the_pace(told_of: dict[Kind, tuple[str, str, str]]) -> None:
    """Whatever a vendor writes, a finite wait comes out."""
    headers: dict[str, str] = {}
    for kind, texts in told_of.items():
        for part, text in zip(("limit", "remaining", "reset"), texts, strict=True):
            headers[f"x-ratelimit-{part}-{kind}"] = text
            headers[f"anthropic-ratelimit-{kind}-{part}"] = text
    wait_s = ready_in_s(told(Pace(), 5, headers, NOW), 5, NOW)
    assert 0 <= wait_s < float("inf")
