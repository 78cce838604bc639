"""Estimates, answers, settlements, digests and the catalogue."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain import attempt as attempts
from ai_broker.domain import completion as completions
from ai_broker.domain import estimation, settlement
from ai_broker.domain.answer import Answer, deltas_of
from ai_broker.domain.attempt import Attempt, Settlement
from ai_broker.domain.catalogue import Candidate, Catalogue, Menu, Protocol, usable
from ai_broker.domain.settlement import Heard
from ai_broker.domain.vendor import Reasoning, Text, ToolCallPiece, UsageSeen
from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
)
from contracts.frames import TextDelta
from contracts.usage import EndState, TokenUsage, UsageBatch, UsageSource

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def ask(text: str, **changes: object) -> CompletionRequest:
    """Give a request of one user turn."""
    asked: dict[str, object] = {
        "completion_id": "c",
        "tenant": "acme",
        "model": "smart",
        "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text=text),)),),
        "deadline": NOW,
    }
    return CompletionRequest.model_validate(asked | changes)


@given(st.text(), st.text())
def test_estimates_grow_with_the_text_and_are_never_zero(one: str, two: str) -> None:
    """More text is never fewer tokens; nothing dispatched is estimated at zero."""
    assert estimation.text_tokens(one + two) >= estimation.text_tokens(one)
    assert estimation.input_tokens(ask(one)) > 0
    unheard = estimation.unheard(ask(one))
    assert unheard.input_tokens > 0
    assert unheard.output_tokens > 0


def test_chinese_is_not_four_characters_a_token() -> None:
    """Scripts without letters have about one token per character."""
    assert estimation.text_tokens("你好世界") == 4
    assert estimation.text_tokens("hello world!") == 3


@given(st.lists(st.text(min_size=1), min_size=1))
def test_an_answer_is_its_pieces_and_its_replay_the_same(pieces: list[str]) -> None:
    """What streams together equals what is stored and what is replayed."""
    answer = Answer()
    for piece in pieces:
        answer.add(Text(1, piece))
    answer.add(Reasoning(0, "think", signature="sig"))
    answer.add(ToolCallPiece(2, "call-1", "tool", '{"a":'))
    answer.add(ToolCallPiece(2, arguments="1}"))
    reasoning, text, call = answer.parts()
    assert reasoning == ReasoningPart(text="think", signature="sig")
    assert text == TextPart(text="".join(pieces))
    assert call == ToolCallPart(call_id="call-1", name="tool", arguments='{"a":1}')
    replayed = [
        each.text for each in deltas_of(answer.parts()) if isinstance(each, TextDelta)
    ]
    assert "".join(replayed) == "".join(pieces)


def test_the_vendors_last_word_beats_an_estimate() -> None:
    """A cut after the final usage is the vendor's count; after an early one, ours."""
    early = UsageSeen(TokenUsage(input_tokens=90, output_tokens=1), {}, final=False)
    heard = Heard(usage=early)
    heard.answer.add(Text(0, "four" * 10))
    stopped = settlement.stopped(ask("hi"), heard, EndState.CANCELLED)
    assert stopped.source is UsageSource.ESTIMATED
    assert stopped.usage == TokenUsage(input_tokens=90, output_tokens=10)
    heard.usage = UsageSeen(
        TokenUsage(input_tokens=90, output_tokens=8), {}, final=True
    )
    stopped = settlement.stopped(ask("hi"), heard, EndState.CANCELLED)
    assert stopped.source is UsageSource.VENDOR
    assert stopped.usage.output_tokens == 8


def test_an_attempt_is_settled_once_unless_it_was_unknown() -> None:
    """Only the truth about an unknown attempt makes another revision."""
    assumed = TokenUsage(input_tokens=5, output_tokens=6)
    record = attempts.dispatch(
        ask("hi"),
        Candidate("v", "m"),
        attempt_id="attempt_1",
        number=1,
        assumed=assumed,
        now=NOW,
    )
    opened = Attempt(record, 1, NOW)
    real = Settlement(
        TokenUsage(input_tokens=1), UsageSource.VENDOR, EndState.COMPLETED
    )
    settled = attempts.settle(opened, real, NOW)
    assert settled is not None
    assert settled.record.revision == 0
    assert attempts.settle(settled, real, NOW) is None
    unknown = attempts.give_up(opened, NOW)
    assert unknown.record.usage == assumed
    corrected = attempts.settle(unknown, real, NOW)
    assert corrected is not None
    assert corrected.record.revision == 1
    (first,) = attempts.owe_usage([unknown.record])
    (second,) = attempts.owe_usage([corrected.record])
    assert first.message_id != second.message_id
    (again,) = attempts.owe_usage([unknown.record])
    assert first.message_id == again.message_id


def test_records_travel_with_their_tenants_own() -> None:
    """A batch never holds two tenants' records, and every record is in one."""
    records = [
        attempts.dispatch(
            ask("hi", tenant=tenant),
            Candidate("v", "m"),
            attempt_id=f"attempt_{number}",
            number=1,
            assumed=TokenUsage(),
            now=NOW,
        )
        for number, tenant in enumerate(("acme", "globex", "acme"))
    ]
    owed = attempts.owe_usage(records)
    batches = [UsageBatch.model_validate(each.message.model_dump()) for each in owed]
    assert [
        (batch.tenant, [each.attempt_id for each in batch.records]) for batch in batches
    ] == [("acme", ["attempt_0", "attempt_2"]), ("globex", ["attempt_1"])]
    assert [str(each.address) for each in owed] == [
        "work.billing-meter.usage.acme",
        "work.billing-meter.usage.globex",
    ]


def test_a_repeat_with_its_own_deadline_is_the_same_question() -> None:
    """Deadline and deltas do not count, the order of keys neither; all else does."""
    digest = completions.digest_of(ask("hi"))
    later = NOW + timedelta(seconds=9)
    assert completions.digest_of(ask("hi", deadline=later, deltas=False)) == digest
    assert completions.digest_of(ask("hi!")) != digest
    one = ask("hi", metadata={"a": "1", "b": "2"})
    two = ask("hi", metadata={"b": "2", "a": "1"})
    assert completions.digest_of(one) == completions.digest_of(two)


CATALOGUE = Catalogue.model_validate(
    {
        "vendors": [
            {
                "name": "real",
                "protocol": "openai",
                "base_url": "https://vendor.example",
                "base_url_env": "REAL_URL",
                "key_envs": ["REAL_KEY", "OTHER_KEY"],
                "models": [{"name": "m-1"}],
                "other_models": True,
            },
            {
                "name": "sandbox",
                "protocol": "anthropic",
                "base_url": "{sandbox}/v1",
                "models": [{"name": "m-1", "output_tokens_default": 5}],
            },
        ],
        "aliases": {"smart": ["real/m-1", "sandbox/m-1"]},
    }
)


SANDBOX = Candidate("sandbox", "m-1", 5, protocol=Protocol.ANTHROPIC)


def menu(environment: dict[str, str], sandbox_url: str | None) -> Menu:
    """Give the menu of an environment."""
    found = usable(CATALOGUE, environment, sandbox_url)
    return Menu(tuple(each.entry for each in found), CATALOGUE.aliases)


def test_a_real_key_puts_the_real_vendor_first_and_changes_nothing_else() -> None:
    """Aliases keep their order, less what is not usable here."""
    with_key = menu({"OTHER_KEY": "k"}, "http://127.0.0.1:1/")
    assert [each.vendor for each in with_key.candidates("smart")] == ["real", "sandbox"]
    without = menu({}, "http://127.0.0.1:1/")
    assert without.candidates("smart") == (SANDBOX,)
    assert menu({}, None).candidates("smart") == ()


def test_models_go_by_alias_full_and_bare_name() -> None:
    """What is not listed is only asked of vendors that say that they have more."""
    found = menu({"REAL_URL": "http://own"}, "http://sandbox")
    assert [each.vendor for each in found.candidates("m-1")] == ["real", "sandbox"]
    assert found.candidates("sandbox/m-1") == (SANDBOX,)
    assert found.candidates("real/new") == (Candidate("real", "new"),)
    assert found.candidates("sandbox/new") == ()
    assert found.candidates("nobody/m-1") == ()
    listed = [each.id for each in found.listing().models]
    assert listed == ["real/m-1", "sandbox/m-1", "smart"]


def test_keys_are_never_in_a_text() -> None:
    """An endpoint can be logged by accident and shows nothing."""
    (endpoint,) = usable(CATALOGUE, {"REAL_KEY": "sk-secret"}, None)
    assert endpoint.key == "sk-secret"
    assert "sk-secret" not in f"{endpoint} {endpoint!r}"
