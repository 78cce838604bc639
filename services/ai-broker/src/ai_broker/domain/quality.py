"""
Signals of an answer's quality that cost microseconds, and claim no more than they see.

Whatever is unsure is None: a language is judged by its script alone, where nobody asks
for another one; a schema only where checking it is affordable; repetition by how well
the end of a text compresses, since a model that loops does so to the end.
"""

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

from ai_broker.domain.embedding import EmbeddingQuestion
from contracts.completions import (
    CompletionRequest,
    FinishReason,
    Part,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
)
from contracts.message import Json, JsonObject
from contracts.quality import QualitySignals

CHECKED_CHARACTERS_MAX: Final = 65_536
CHECK_BUDGET: Final = 4_000
"""Keywords of a schema looked at: some ten milliseconds at most."""
CALLS_MAX: Final = 32
REPEATED_BYTES: Final = 8_192
REPEATED_BYTES_MIN: Final = 1_024
REPETITIVE_FROM: Final = 0.95
"""Prose has about 0.5, code 0.7, tables up to 0.9; one sentence over and over 0.98."""

SAMPLE_CHARACTERS: Final = 2_000
LETTERS_MIN: Final = 60
IDEOGRAPHS_MIN: Final = 20
DOMINANT_FROM: Final = 0.9
KANA_FROM: Final = 0.05

_SCRIPTS: Final = {
    "latin": re.compile(r"[A-Za-z\u00c0-\u024f]+"),
    "han": re.compile(r"[\u3400-\u9fff]+"),
    "kana": re.compile(r"[\u3040-\u30ff]+"),
    "hangul": re.compile(r"[\uac00-\ud7a3]+"),
    "cyrillic": re.compile(r"[\u0400-\u04ff]+"),
    "arabic": re.compile(r"[\u0600-\u06ff]+"),
}
_IDEOGRAPHIC: Final = frozenset({"chinese", "japanese", "hangul"})
_CODE: Final = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_OTHER_LANGUAGE: Final = re.compile(
    "translat|language|翻译|翻譯|译成|譯成|中文|汉语|漢語|英文|英语|英語|日文|日语|日本語"
    "|韩语|한국어|chinese|mandarin|english|japanese|korean|french|german|spanish|russian"
    "|arabic|перевод|перевед|übersetz|tradu",
    re.IGNORECASE,
)


def signals(
    request: CompletionRequest, parts: Sequence[Part], finish: FinishReason
) -> QualitySignals | None:
    """Return what can be said of an answer that came to its end; None of vectors."""
    if isinstance(request, EmbeddingQuestion):
        return None
    text = "".join(each.text for each in parts if isinstance(each, TextPart))
    calls = [each for each in parts if isinstance(each, ToolCallPart)]
    declined = any(isinstance(each, RefusalPart) for each in parts)
    refused = declined or finish in {FinishReason.REFUSAL, FinishReason.CONTENT_FILTER}
    schema = request.output_schema
    fits: bool | None = None
    if schema is not None and not calls and not refused:
        fits = _fits(text, schema.json_schema)
    return QualitySignals(
        truncated=finish is FinishReason.LENGTH,
        refused=refused,
        empty=not calls and not declined and not text.strip(),
        schema_valid=fits,
        arguments_valid=_calls_valid(request, calls),
        repetition=repetition(text),
        language_mismatch=None if schema else language_mismatch(request, text),
    )


def flagged(found: QualitySignals) -> tuple[str, ...]:
    """Return the names of what is wrong, for counting."""
    wrong = {
        "truncated": found.truncated,
        "refused": found.refused,
        "empty": found.empty,
        "schema-invalid": found.schema_valid is False,
        "arguments-invalid": found.arguments_valid is False,
        "repetitive": (found.repetition or 0.0) >= REPETITIVE_FROM,
        "language-mismatch": found.language_mismatch is True,
    }
    return tuple(name for name, holds in wrong.items() if holds)


def repetition(text: str) -> float | None:
    """Return how much of a text's end repeats, from 0 to 1; None when it is short."""
    # Characters first: encoding all of a huge answer would cost more than the rest.
    tail = text[-REPEATED_BYTES:].encode(errors="replace")[-REPEATED_BYTES:]
    if len(tail) < REPEATED_BYTES_MIN:
        return None
    return round(max(0.0, 1 - len(zlib.compress(tail, 1)) / len(tail)), 3)


def language_mismatch(request: CompletionRequest, text: str) -> bool | None:
    """Tell whether an answer is in another script than its question; None if unsure."""
    question = _last_words(request)
    orders = " ".join(_words_of(request, Role.SYSTEM))[:SAMPLE_CHARACTERS]
    if _OTHER_LANGUAGE.search(question) or _OTHER_LANGUAGE.search(orders):
        return None
    asked, answered = _script(question), _script(_CODE.sub("", text[:REPEATED_BYTES]))
    if asked is None or answered is None:
        return None
    if asked != answered and answered == _script(orders):
        return None
    return asked != answered


def _calls_valid(
    request: CompletionRequest, calls: Sequence[ToolCallPart]
) -> bool | None:
    if not calls:
        return None
    schemas = {each.name: each.parameters for each in request.tools}
    if any(each.name not in schemas for each in calls):
        return False
    verdicts = [
        _fits(each.arguments or "{}", schemas[each.name]) for each in calls[:CALLS_MAX]
    ]
    if False in verdicts:
        return False
    return None if None in verdicts or len(calls) > CALLS_MAX else True


def _fits(text: str, schema: JsonObject) -> bool | None:
    """Tell whether a text is JSON that fits; None when that is not affordable."""
    if len(text) > CHECKED_CHARACTERS_MAX:
        return None
    try:
        value: Json = json.loads(text)
    except RecursionError:
        return None
    except ValueError:
        return False
    if not schema or _names(schema, "patternProperties"):
        return None if schema else True
    # jsonschema costs much to import, and most processes never check a schema.
    from bounded.schema import first_violation  # noqa: PLC0415

    try:
        return first_violation(schema, value, budget=CHECK_BUDGET) is None
    # Supervised boundary: the schema is a stranger's and may be no schema at all; a
    # signal is not worth an answer.
    except Exception:  # noqa: BLE001
        return None


def _names(value: Json, key: str) -> bool:
    level: list[Json] = [value]
    while level:
        if any(isinstance(each, dict) and key in each for each in level):
            return True
        level = [inner for each in level for inner in _inside(each)]
    return False


def _inside(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _last_words(request: CompletionRequest) -> str:
    for turn in reversed(request.turns):
        if turn.role is Role.USER:
            said = " ".join(
                each.text for each in turn.parts if isinstance(each, TextPart)
            )
            if said:
                return _CODE.sub("", said[:REPEATED_BYTES])
    return ""


def _words_of(request: CompletionRequest, role: Role) -> Iterable[str]:
    return (
        part.text
        for turn in request.turns
        if turn.role is role
        for part in turn.parts
        if isinstance(part, TextPart)
    )


def _script(text: str) -> str | None:
    """Return the script that nearly all letters are of; None when there is none."""
    sample = text[:SAMPLE_CHARACTERS]
    if sample.lstrip()[:1] in ("{", "["):
        return None
    counts = {
        name: sum(map(len, pattern.findall(sample)))
        for name, pattern in _SCRIPTS.items()
    }
    kana, han = counts.pop("kana"), counts.pop("han")
    is_japanese = kana > KANA_FROM * (kana + han)
    counts["japanese" if is_japanese else "chinese"] = kana + han
    total = sum(counts.values())
    name, most = max(counts.items(), key=lambda each: each[1])
    enough = IDEOGRAPHS_MIN if name in _IDEOGRAPHIC else LETTERS_MIN
    return name if most >= enough and most >= DOMINANT_FROM * total else None
