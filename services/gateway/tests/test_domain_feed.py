from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from contracts.message import JsonObject
from contracts.tasks import LiveDelta, TaskEvent, TaskEventType
from gateway.domain.feed import Feed

NOW = datetime(2026, 11, 23, tzinfo=UTC)
TEXT = "abcdefghij"


def event(seq: int) -> TaskEvent:
    """Return a history event."""
    return TaskEvent(seq=seq, type=TaskEventType.STEP_STARTED, at=NOW)


def delta(offset: int, text: str, *, turn: int = 1, fence: int = 1) -> LiveDelta:
    """Return a piece of live text."""
    return LiveDelta(
        task_id="task_1",
        step_id="step_1",
        fence=fence,
        turn=turn,
        offset=offset,
        text=text,
    )


def turn_finished(seq: int, turn: int) -> TaskEvent:
    """Return the event that closes a turn."""
    data: JsonObject = {"step_id": "step_1", "turn": {"turn": turn}}
    return TaskEvent(seq=seq, type=TaskEventType.TURN_FINISHED, at=NOW, data=data)


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(0, 5))
def test_events_rise_and_never_repeat(seqs: list[int], after: int) -> None:
    """Whatever the history answers, each sequence is shown once, in order."""
    feed = Feed(after)
    shown = [seq for seq in seqs if feed.accept_event(event(seq)) is not None]
    assert shown == sorted(set(shown))
    assert all(seq > after for seq in shown)


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 10)).map(
            lambda pair: (pair[0], TEXT[pair[0] : pair[0] + pair[1]])
        ),
        max_size=30,
    )
)
def test_live_text_never_has_a_gap(pieces: list[tuple[int, str]]) -> None:
    """What a reader assembles is always a prefix of what was said."""
    feed, read = Feed(0), ""
    for offset, text in pieces:
        if feed.accept_delta(delta(offset, text)) is not None:
            read = text if offset == 0 else read + text
    assert TEXT.startswith(read)


def test_a_finished_turn_is_not_live_any_more() -> None:
    """A delta that comes late does not unwrite the history."""
    feed = Feed(0)
    assert feed.accept_delta(delta(0, "abc")) is not None
    feed.accept_event(turn_finished(1, 1))
    assert feed.accept_delta(delta(3, "def")) is None
    assert feed.accept_delta(delta(0, "x", turn=2)) is not None


def test_a_new_attempt_starts_the_turn_again() -> None:
    """A higher fence begins at 0; pieces of the old one are dropped."""
    feed = Feed(0)
    feed.accept_delta(delta(0, "abc"))
    assert feed.accept_delta(delta(3, "z", fence=2)) is None
    assert feed.accept_delta(delta(0, "x", fence=2)) is not None
    assert feed.accept_delta(delta(3, "def", fence=1)) is None
