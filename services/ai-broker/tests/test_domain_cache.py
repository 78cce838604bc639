"""Equal questions are found equal, and nothing else is."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain import cache
from ai_broker.domain.cache import BOOKKEEPING, Kept, question_of
from ai_broker.domain.catalogue import Candidate
from contracts.completions import (
    ChatTurn,
    Completion,
    CompletionRequest,
    FinishReason,
    Part,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
)
from contracts.usage import TokenUsage

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TURNS = (ChatTurn(role=Role.USER, parts=(TextPart(text="Hi"),)),)
PLAIN = CompletionRequest(
    completion_id="c-1", tenant="acme", model="smart", turns=TURNS, deadline=NOW
)
OTHER: dict[str, object] = {
    "completion_id": "c-2",
    "tenant": "globex",
    "task_id": "task_1",
    "step_id": "step_1",
    "employee": "clerk",
    "user": "ann",
    "team": "sales",
    "api_key_id": "key-1",
    "metadata": {"trace": "1"},
    "cache_ttl_s": 60,
    "deltas": False,
    "deadline": NOW + timedelta(seconds=9),
    "model": "fast",
    "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text="hi"),)),),
    "tools": ({"name": "add", "parameters": {}},),
    "tool_choice": {"parallel": False},
    "output_schema": {"json_schema": {}},
    "output_tokens_max": 5,
    "stop": ("x",),
    "sampling": {"temperature": 0},
    "reasoning": {"effort": "low"},
    "service_tier": "flex",
    "extra": {"x": None},
    "drop_unsupported": True,
}


def answer(
    finish: FinishReason = FinishReason.STOP, *parts: Part, vendor: str = "first"
) -> Completion:
    """Give a completion that ended so."""
    return Completion(
        completion_id="c-1",
        vendor=vendor,
        model="model-1-2026",
        parts=parts,
        finish_reason=finish,
        usage=TokenUsage(input_tokens=3, output_tokens=4),
        attempts=(),
        created_at=NOW,
    )


def test_every_field_is_decided() -> None:
    """A field that the contract gains must be thought about here."""
    assert set(OTHER) == set(CompletionRequest.model_fields)


@pytest.mark.parametrize("name", sorted(OTHER))
def test_bookkeeping_leaves_a_question_equal_and_the_rest_does_not(name: str) -> None:
    """Each field alone either never matters, or always does."""
    changed = PLAIN.model_dump() | {name: OTHER[name]}
    asked = question_of(CompletionRequest.model_validate(changed))
    assert (asked == question_of(PLAIN)) is (name in BOOKKEEPING)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.data())
def test_only_the_same_turns_are_equal(texts: list[str], data: st.DataObject) -> None:
    """Moving text between turns or parts is another question."""

    def asking(split: int) -> str:
        parts = tuple(TextPart(text=each) for each in texts)
        turns = [
            ChatTurn(role=Role.USER, parts=some)
            for some in (parts[:split], parts[split:])
        ]
        return question_of(PLAIN.model_copy(update={"turns": tuple(turns)}))

    split = data.draw(st.integers(0, len(texts) - 1))
    assert asking(split) == asking(split)
    assert asking(split) != asking(split + 1)


def test_only_whole_answers_are_kept() -> None:
    """Truncated, filtered, declined, paused and empty answers are asked for anew."""
    text, call = (
        TextPart(text="Good"),
        ToolCallPart(call_id="1", name="add", arguments="{}"),
    )
    assert cache.is_keepable(answer(FinishReason.STOP, text))
    assert cache.is_keepable(answer(FinishReason.TOOL_CALLS, call))
    assert not cache.is_keepable(answer(FinishReason.STOP))
    assert not cache.is_keepable(answer(FinishReason.STOP, RefusalPart(text="no")))
    for finish in set(FinishReason) - {FinishReason.STOP, FinishReason.TOOL_CALLS}:
        assert not cache.is_keepable(answer(finish, text))


def test_only_who_could_be_asked_now_answers() -> None:
    """An alias that points elsewhere leaves its old answers behind."""
    kept = Kept(answer(FinishReason.STOP, TextPart(text="x")), ("first", "model-1"))
    assert cache.may_answer(
        kept, [Candidate("second", "m"), Candidate("first", "model-1")]
    )
    assert not cache.may_answer(kept, [Candidate("first", "model-2")])
    assert not cache.may_answer(kept, [Candidate("second", "model-1")])


def test_an_asker_names_the_age_that_it_takes() -> None:
    """Without a lifetime of its own a request never takes a kept answer."""
    assert cache.oldest(PLAIN, NOW) is None
    asking = PLAIN.model_copy(update={"cache_ttl_s": 60})
    assert cache.oldest(asking, NOW) == NOW - timedelta(seconds=60)
