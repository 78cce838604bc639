"""The account that lease storms hold the books against."""

from datetime import UTC, datetime

import pytest

from testkit.lease_oracle import Books, Oracle, Seen

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SCOPE = "employee:buyer"
BROKER = "ai-broker-0-r1"
LIMIT, RESERVED, COST = 1_000, 100, 70


def under_way() -> Oracle:
    """Return an oracle that has heard one call begin."""
    oracle = Oracle()
    look(oracle, held=RESERVED)
    oracle.opening("attempt", Seen(BROKER, (SCOPE,), RESERVED, COST))
    oracle.began("attempt")
    return oracle


def look(oracle: Oracle, *, held: int) -> None:
    """Let it see books that hold so much for the broker."""
    books = Books({SCOPE: LIMIT}, {}, {(SCOPE, BROKER): held} if held else {})
    oracle.look(books, [BROKER], NOW)


def test_a_call_under_way_is_owed_all_that_is_reserved() -> None:
    """Nobody knows yet what it will cost: its money must not count as free."""
    oracle = under_way()
    look(oracle, held=RESERVED)
    assert oracle.findings == []
    look(oracle, held=RESERVED - 1)
    assert oracle.findings == [
        f"{SCOPE}: 100 is owed, and only 99 of it is spent or held"
    ]


def test_an_answered_call_is_owed_its_cost_before_its_commit_is_heard_of() -> None:
    """The meter may be told of a commit before whoever made it goes on."""
    oracle = under_way()
    oracle.answered("attempt")
    look(oracle, held=COST)
    oracle.ended("attempt")
    look(oracle, held=COST)
    assert oracle.findings == []
    assert oracle.costs == {"attempt": COST}


@pytest.mark.parametrize("is_heard", [True, False])
def test_an_answered_call_is_owed_all_that_it_cost(*, is_heard: bool) -> None:
    """Its cost must not count as free, before or after its commit is heard of."""
    oracle = under_way()
    oracle.answered("attempt")
    if is_heard:
        oracle.ended("attempt")
    look(oracle, held=COST - 1)
    assert oracle.findings == [
        f"{SCOPE}: 70 is owed, and only 69 of it is spent or held"
    ]


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_call_cut_by_a_crash_is_owed_its_cost_once(*, is_answered: bool) -> None:
    """Whether or not its answer had come, it costs what it costs."""
    oracle = under_way()
    if is_answered:
        oracle.answered("attempt")
    oracle.crashed(BROKER)
    look(oracle, held=COST)
    assert oracle.findings == []
    assert oracle.unheard == {"attempt": COST}
    look(oracle, held=COST - 1)
    assert oracle.findings == [
        f"{SCOPE}: 70 is owed, and only 69 of it is spent or held"
    ]
