# ruff: noqa: RUF001 -- characters that look alike are what is tested
"""What leaves is masked, what comes back is restored, however it is cut up."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ai_broker.domain.answer import Answer
from ai_broker.domain.guard.detectors import detectors_of
from ai_broker.domain.guard.policy import GuardBook, GuardPolicy, Mode, OwnPattern
from ai_broker.domain.guard.request import Guarded, Unmaskable, guard
from ai_broker.domain.guard.restoring import Restorations, Restoring
from ai_broker.domain.guard.vault import TOKEN, Vault
from ai_broker.domain.vendor import Piece, Reasoning, Text, ToolCallPiece
from contracts.completions import (
    CompletionRequest,
    DocumentPart,
    TextPart,
    ToolCallPart,
)

MAIL, PHONE = "zhang.san@example.com", "13812345678"
MASK = GuardPolicy(mode=Mode.MASK)
RESTORE = GuardPolicy(mode=Mode.RESTORE)
BADGE = OwnPattern(name="BADGE", pattern=r'B"[0-9]{4}"')
DETECTORS = detectors_of(RESTORE.model_copy(update={"patterns": (BADGE,)}))

VALUES = st.sampled_from(
    [
        MAIL,
        PHONE,
        "4111 1111 1111 1111",
        "078-05-1120",
        "＠a",
        'B"1234"',
        "<",
        "<EMAIL_1>",
    ]
)
TEXTS = st.lists(VALUES | st.text(max_size=6), max_size=8).map("，".join)


def asked(*parts: object, **changes: object) -> CompletionRequest:
    """Ask a question with these parts."""
    fields: dict[str, Any] = {
        "completion_id": "c",
        "tenant": "acme",
        "model": "m",
        "turns": [{"role": "user", "parts": list(parts)}],
        "deadline": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return CompletionRequest.model_validate(fields | changes)


def guarded(request: CompletionRequest, policy: GuardPolicy = RESTORE) -> Guarded:
    """Guard a request that may leave."""
    result = guard(request, policy)
    assert isinstance(result, Guarded)
    return result


def text_of(request: CompletionRequest) -> str:
    """Give the first text."""
    part = request.turns[0].parts[0]
    assert isinstance(part, TextPart)
    return part.text


def cut(text: str, places: Iterable[int]) -> list[str]:
    """Cut a text into pieces at these places."""
    at = [0, *sorted({each % (len(text) + 1) for each in places}), len(text)]
    return [text[a:b] for a, b in pairwise(at)]


def heard(pieces: Iterable[Piece], restorations: Restorations) -> list[Piece]:
    """Give what a caller hears of a whole answer."""
    restoring = Restoring(restorations)
    said = [each for piece in pieces for each in restoring.feed(piece)]
    return [*said, *restoring.end()]


def test_equal_values_share_a_placeholder_and_come_back() -> None:
    """One value is one placeholder in every part of a request."""
    parts = [{"kind": "text", "text": f"{MAIL}, {PHONE}, {MAIL}"}]
    result = guarded(asked(*parts, stop=[MAIL]))
    assert text_of(result.request) == "<EMAIL_1>, <PHONE_1>, <EMAIL_1>"
    assert result.request.stop == ("<EMAIL_1>",)
    assert result.restorations.restore("to <EMAIL_1>!") == f"to {MAIL}!"
    assert result.restorations.restore("<EMAIL_2>") == "<EMAIL_2>"


def test_placeholders_of_the_tenants_own_are_not_confused() -> None:
    """Who writes ``<EMAIL_1>`` gets it back as written; ours are of another series."""
    parts = [{"kind": "text", "text": f"<EMAIL_1> is {MAIL}; <PHONE_2X7>"}]
    result = guarded(asked(*parts))
    assert text_of(result.request) == "<EMAIL_1> is <EMAIL_1X1>; <PHONE_2X7>"
    restored = result.restorations.restore("<EMAIL_1> <EMAIL_1X1> <PHONE_2X7>")
    assert restored == f"<EMAIL_1> {MAIL} <PHONE_2X7>"


def test_a_growing_conversation_keeps_its_placeholders() -> None:
    """The vendor's prompt cache sees the same beginning in every turn."""
    first = [{"kind": "text", "text": f"{MAIL} and {PHONE}"}]
    more = [*first, {"kind": "text", "text": f"b@example.com, {PHONE}"}]
    one, two = guarded(asked(*first)).request, guarded(asked(*more)).request
    assert two.turns[0].parts[0] == one.turns[0].parts[0]


def test_nothing_of_a_request_leaves_unmasked() -> None:
    """Every field with words is masked; identifiers of the protocol stay."""
    result = guarded(
        asked(
            {"kind": "text", "text": MAIL},
            {"kind": "tool-call", "call_id": "c1", "name": "t",
             "arguments": '{"to":"zhang.san\\u0040example.com","n":13812345678}'},
            {"kind": "tool-result", "call_id": "c1",
             "content": [{"kind": "text", "text": f'{{"a":"{MAIL}"}}'}]},
            {"kind": "document", "media_type": "text/plain; charset=utf-8",
             "data": "emhhbmcuc2FuQGV4YW1wbGUuY29t", "name": f"{PHONE}.txt"},
            {"kind": "reasoning", "text": PHONE},
            {"kind": "refusal", "text": PHONE},
            tools=[{"name": "t", "description": MAIL, "parameters": {
                "properties": {"to": {"enum": [MAIL], "description": PHONE}}}}],
            output_schema={"json_schema": {"const": MAIL, MAIL: [PHONE, 1, None]}},
            metadata={"who": MAIL, PHONE: "x"}, stop=[PHONE], user=MAIL,
            extra={"safety_identifier": MAIL, "prompt_cache_key": f"k {PHONE}"},
        )
    ).request  # fmt: skip
    sent = result.model_dump_json()
    assert MAIL not in sent
    assert PHONE not in sent
    assert "zhang" not in sent
    assert result.user is None
    assert "safety_identifier" not in result.extra
    call, document = result.turns[0].parts[1], result.turns[0].parts[3]
    assert isinstance(call, ToolCallPart)
    assert json.loads(call.arguments) == {"to": "<EMAIL_1>", "n": "<PHONE_1>"}
    assert isinstance(document, DocumentPart)
    assert document.data == b"<EMAIL_1>"


def test_a_speakers_name_has_no_brackets() -> None:
    """Vendors take no angle brackets in names."""
    said = {"kind": "text", "text": "Hello"}
    turns = [{"role": "user", "name": MAIL, "parts": [said]}]
    assert guarded(asked(turns=turns)).request.turns[0].name == "EMAIL_1"


def test_signed_reasoning_goes_back_as_it_came() -> None:
    """A vendor checks its signature over the very text."""
    signed = {"kind": "reasoning", "text": "<EMAIL_1> at 10.1.2.3", "signature": "s"}
    request = asked(signed, {"kind": "text", "text": MAIL})
    assert guarded(request).request.turns[0].parts[0] == request.turns[0].parts[0]


def test_off_changes_nothing() -> None:
    """Without a wish, the very same request goes out."""
    request = asked({"kind": "text", "text": MAIL})
    assert guarded(request, GuardPolicy()).request is request


def test_mask_alone_restores_nothing_and_keeps_numbers() -> None:
    """An earlier answer's placeholders, sent back, do not start another series."""
    request = asked({"kind": "text", "text": f"<EMAIL_1> was {MAIL}"})
    result = guarded(request, MASK)
    assert text_of(result.request) == "<EMAIL_1> was <EMAIL_1>"
    assert not result.restorations


@pytest.mark.parametrize(
    "part",
    [
        {"kind": "image", "media_type": "image/png", "data": "AA=="},
        {"kind": "document", "media_type": "application/pdf", "data": "AA=="},
        {"kind": "document", "media_type": "text/plain", "data": "/w=="},
        {"kind": "tool-result", "call_id": "c", "content": [{"kind": "image"}]},
    ],
)
def test_binaries_are_let_out_or_refused(part: dict[str, object]) -> None:
    """What cannot be masked passes by default and is refused where that is set."""
    assert isinstance(guard(asked(part), MASK), Guarded)
    refusing = GuardPolicy.model_validate({"mode": "mask", "binaries": "refuse"})
    refused = guard(asked(part), refusing)
    assert isinstance(refused, Unmaskable)
    assert refused.detail.startswith("turns[0].parts[0]")


def test_what_a_neighbour_hid_is_found_too() -> None:
    """Glued together neither is a number of its own; once one is masked, it is."""
    vault = Vault(detectors_of(RESTORE))
    masked = vault.mask(f"{MAIL}123-45-6789")
    assert masked == "<EMAIL_1><SSN_1>"


def test_an_escaped_backslash_is_no_escaped_bracket() -> None:
    """JSON text that only looks like a placeholder stays the JSON that it is."""
    restorations = Restorations({"<EMAIL_1>": MAIL})
    text = '{"a": "\\\\u003cEMAIL_1\\u003e", "b": "<EMAIL_1>"}'
    for step in (1, 2, 3, len(text)):
        cut_up = [text[at : at + step] for at in range(0, len(text), step)]
        pieces = heard((ToolCallPiece(0, arguments=a) for a in cut_up), restorations)
        told = "".join(p.arguments for p in pieces if isinstance(p, ToolCallPiece))
        assert json.loads(told) == {"a": "\\u003cEMAIL_1>", "b": MAIL}


@given(TEXTS)
def test_masked_text_holds_no_personal_data(text: str) -> None:
    """Between its placeholders nothing is found any more, and the way back is exact."""
    vault = Vault(DETECTORS)
    vault.mask(text)
    free = max(vault.foreign_series, default=0) + 1
    vault = Vault(DETECTORS, free)
    masked = vault.mask(text)
    for between in TOKEN.sub("\0", masked).split("\0"):
        assert DETECTORS.spans(between) == []
    assert Restorations(vault.values).restore(masked) == text


@given(TEXTS, st.lists(st.integers(0, 999), max_size=12))
def test_a_cut_up_answer_is_restored_whole(text: str, places: list[int]) -> None:
    """Mask, cut anywhere, restore: the same text, and never half a placeholder."""
    vault = Vault(DETECTORS, 9)
    masked = vault.mask(text)
    restorations = Restorations(vault.values)
    pieces = heard((Text(0, each) for each in cut(masked, places)), restorations)
    assert "".join(each.text for each in pieces if isinstance(each, Text)) == text


@given(
    st.dictionaries(st.text(max_size=5), TEXTS, max_size=4),
    st.lists(st.integers(0, 9_999), max_size=12),
    st.sampled_from(["<>", "\\u003c\\u003e", "\\u003C\\u003E"]),
)
def test_arguments_stay_json_and_come_back(
    said: dict[str, str], places: list[int], brackets: str
) -> None:
    """Masked and restored arguments parse to what they were, escaped or not."""
    vault = Vault(DETECTORS, 9)
    masked = vault.mask_json_text(json.dumps(said))
    json.loads(masked)
    half = len(brackets) // 2
    spelled = TOKEN.sub(
        lambda each: brackets[:half] + each[0][1:-1] + brackets[half:], masked
    )
    first = ToolCallPiece(3, "id", "tool")
    rest = [ToolCallPiece(3, arguments=each) for each in cut(spelled, places)]
    pieces = heard([first, *rest], Restorations(vault.values))
    answer = Answer()
    for each in pieces:
        answer.add(each)
    (part,) = answer.parts()
    assert isinstance(part, ToolCallPart)
    assert (part.call_id, part.name) == ("id", "tool")
    assert json.loads(part.arguments) == said


def test_parts_are_held_back_apart_and_reasoning_not_at_all() -> None:
    """Interleaved parts do not complete each other's placeholders."""
    restorations = Restorations({"<EMAIL_1>": MAIL})
    pieces = heard(
        [
            Text(0, "a <EMA"),
            Reasoning(1, "<EMAIL_1>"),
            ToolCallPiece(2, "id", "t", '"<EMAIL'),
            Text(0, "IL_1> <EMAI"),
            ToolCallPiece(2, arguments='_1>"'),
        ],
        restorations,
    )
    assert pieces == [
        Text(0, "a "),
        Reasoning(1, "<EMAIL_1>"),
        ToolCallPiece(2, "id", "t", '"'),
        Text(0, f"{MAIL} "),
        ToolCallPiece(2, arguments=f'{MAIL}"'),
        Text(0, "<EMAI"),
    ]


@given(st.text(alphabet="<EMAIL_12>\\u03ce x", max_size=60), st.integers(1, 9))
def test_no_more_is_held_back_than_a_placeholder(text: str, step: int) -> None:
    """Whatever could not become one of ours is passed on at once."""
    restoring = Restoring(Restorations({"<EMAIL_1>": MAIL}))
    given_, told = 0, 0
    for piece in (text[at : at + step] for at in range(0, len(text), step)):
        given_ += len(piece)
        before = list(restoring.feed(Text(0, piece)))
        told += sum(
            len(each.text.replace(MAIL, "<EMAIL_1>"))
            for each in before
            if isinstance(each, Text)
        )
        assert given_ - told < len("<EMAIL_1>")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("X", "abcd"),
        ("EMAIL_1", "abcd"),
        ("BADGE", "("),
        ("BADGE", "a*"),
        ("BADGE", "(a{1,9}){1,9}x"),
        ("BADGE", "[A-Z]+-[0-9]+"),
        ("BADGE", "[0-9]{2}"),
    ],
)
def test_an_own_pattern_that_could_hurt_is_refused(name: str, pattern: str) -> None:
    """Names that could be confused, open repeats and tiny matches stop the start."""
    with pytest.raises(ValidationError):
        OwnPattern(name=name, pattern=pattern)


def test_the_book_is_read_per_tenant() -> None:
    """YAML reads ``off`` as false, and means off."""
    book = GuardBook.model_validate(
        {"default": {"mode": "mask"}, "tenants": {"acme": {"mode": False}}}
    )
    assert book.policy("acme").mode is Mode.OFF
    assert book.policy("globex").mode is Mode.MASK
