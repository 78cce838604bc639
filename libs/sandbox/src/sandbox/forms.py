"""
Fill a JSON Schema, property by property, from what the documents say.

A property is understood by its words: ``invoice_number`` is the label that shares
most words with it (synonyms counted as the same word), numbers named stated or
calculated are the document's total and the calculator's, booleans such as
``sums_match`` tell whether they agree, arrays such as ``discrepancies`` list where
they do not, an enum takes the member whose words occur most. What the documents do
not say is null where the schema allows it, else "unknown", 0, false or [].
"""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final

from sandbox import prose
from sandbox.arithmetic import Check
from sandbox.documents import NUMBER, LineItem, parse_number
from sandbox.payload import Json, JsonObject, list_of, object_of, text_of
from sandbox.prose import Facts

DEPTH_MAX: Final = 24
LABEL_LIKENESS_MIN: Final = 0.5
_SAME: Final = {
    **dict.fromkeys(("no", "nr", "num", "ref", "reference", "id", "code"), "number"),
    **dict.fromkeys(("vendor", "seller"), "supplier"),
    **dict.fromkeys(("client", "buyer"), "customer"),
    **dict.fromkeys(("computed", "actual", "correct", "expected"), "calculated"),
    "from": "sender",
    "qty": "quantity",
}
_TOTALS = {"total", "sum", "amount"}
_PROBLEMS = {"discrepancy", "discrepancie", "difference", "error", "issue", "mismatche"}
_LINES = {"item", "line", "position", "product"}
_AGREES = {"match", "consistent", "calculated", "valid", "ok", "agree", "matche"}
_DISAGREES = {"mismatch", "inconsistent", "wrong", "invalid", *_PROBLEMS}
_POSITIVE = {"pay", "approve", "accept", "ok", "pass", "valid", "match", "consistent"}
_NEGATIVE = {"query", "reject", "dispute", "hold", "escalate", "fail", "review"}
_WRITERS: Final[tuple[tuple[set[str], Callable[[Facts], str | None]], ...]] = (
    ({"customer", "sender", "author"}, prose.person),
    ({"summary", "overview", "abstract"}, prose.summary),
    (
        {"reason", "explanation", "rationale", "note", "comment", "finding"},
        prose.findings,
    ),
    ({"reply", "draft", "email"}, prose.reply),
    (
        {"answer", "result", "text", "output", "response", "message", "content"},
        prose.plain_text,
    ),
)
_NEUTRAL = ("neutral", "normal", "medium", "other", "general", "unknown", "none")
_EMPTY: Final[JsonObject] = {"number": 0, "integer": 0, "boolean": False}
_SIGNS: Final = {
    "urgent": "urgent immediately asap today deadline third unacceptable",
    "high": "urgent immediately soon deadline unacceptable waiting needed",
    "low": "whenever hurry someday curious",
    "negative": "disappoint broken damage late unacceptable wrong missing refund"
    " complain frustrat unfortunately angry never crack scratch",
    "angry": "unacceptable ridiculous furious angry",
    "positive": "thank great happy excellent love perfect wonderful",
    "delivery": "deliver shipment ship parcel courier arriv tracking late",
    "shipping": "deliver shipment ship parcel courier arriv tracking late",
    "billing": "invoice charge bill payment paid price",
    "refund": "refund money return",
    "damaged": "damage broken crack scratch dent",
    "damage": "damage broken crack scratch dent",
    "product": "damage broken crack defect quality faulty",
    "technical": "error crash login password bug install",
    "account": "login password account profile",
}


def fill(schema: JsonObject, facts: Facts) -> Json:
    """Return a value that satisfies the schema, made of the facts."""
    return _fill(schema, "", facts, schema, 0)


def _fill(
    schema: JsonObject, name: str, facts: Facts, root: JsonObject, depth: int
) -> Json:
    schema, nullable = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if isinstance(kind, list):
        nullable = nullable or "null" in kind
        kind = next((each for each in kind if each != "null"), "null")
    if kind == "object" or "properties" in schema:
        return _fill_object(schema, facts, root, depth) if depth < DEPTH_MAX else {}
    words = split_words(name)
    if kind == "array":
        return _fill_array(object_of(schema.get("items")), words, facts, root)
    value = _scalar(schema, text_of(kind), words, facts)
    if value is None and not nullable:
        default = schema.get("default")
        return default if default is not None else _EMPTY.get(str(kind), "unknown")
    limit = schema.get("maxLength")
    return value[:limit] if isinstance(value, str) and isinstance(limit, int) else value


def _scalar(
    schema: JsonObject, kind: str, words: list[str], facts: Facts
) -> bool | float | str | None:
    options = [each for each in list_of(schema.get("enum")) if isinstance(each, str)]
    if options:
        return _choose(options, facts)
    match kind:
        case "number" | "integer":
            return _as_number(_number(words, facts), integer=kind == "integer")
        case "boolean":
            return _boolean(words, facts)
        case "string":
            value = _string(words, facts, text_of(schema.get("format")))
            hint = split_words(text_of(schema.get("description")))
            return value if value is not None else _labelled(hint, facts)
        case _:
            return None


def _resolve(schema: JsonObject, root: JsonObject) -> tuple[JsonObject, bool]:
    """Follow references and take the first variant that is not null."""
    nullable = False
    for _ in range(DEPTH_MAX):
        reference = schema.get("$ref")
        for key in ("anyOf", "oneOf", "allOf"):
            variants = [object_of(each) for each in list_of(schema.get(key))]
            some = [each for each in variants if each.get("type") != "null"]
            nullable = nullable or len(some) < len(variants)
            if some:
                rest = {k: v for k, v in schema.items() if k != key}
                schema = {**rest, **some[0]}
                break
        else:
            if not isinstance(reference, str):
                break
            target: Json = root
            for step in reference.lstrip("#/").split("/"):
                target = object_of(object_of(target).get(step))
            rest = {k: v for k, v in schema.items() if k != "$ref"}
            schema = {**rest, **object_of(target)}
    return schema, nullable


def _fill_object(
    schema: JsonObject, facts: Facts, root: JsonObject, depth: int
) -> JsonObject:
    return {
        name: _fill(object_of(inner), name, facts, root, depth + 1)
        for name, inner in object_of(schema.get("properties")).items()
    }


def _fill_array(
    items: JsonObject, words: list[str], facts: Facts, root: JsonObject
) -> list[Json]:
    items, _ = _resolve(items, root)
    if _PROBLEMS & set(words):
        return [_row(items, root, check) for check in facts.wrong]
    if _LINES & set(words):
        lines = [item for each in facts.documents for item in each.items]
        checks = {check.label: check for check in facts.checks}
        return [_row(items, root, checks.get(line.label), line) for line in lines]
    options = [each for each in list_of(items.get("enum")) if isinstance(each, str)]
    if options:
        return [each for each in options if _occurrences(each, facts.text)]
    if "question" in words:
        sentences = (each for one in facts.documents for each in one.sentences)
        return [sentence for sentence in sentences if sentence.endswith("?")]
    return []


def _row(
    schema: JsonObject,
    root: JsonObject,
    check: Check | None,
    line: LineItem | None = None,
) -> Json:
    """One discrepancy or line item, as object, sentence or amount."""
    label = line.label if line else check.label if check else "unknown"
    stated = line.stated if line else check.stated if check else None
    calculated = check.calculated if check else None
    if schema.get("type") == "string":
        return f"{label}: stated {stated}, calculated {calculated}"
    if schema.get("type") in ("number", "integer"):
        return _as_number(stated, integer=False)
    row: JsonObject = {}
    for name, inner in object_of(schema.get("properties")).items():
        words = set(split_words(name))
        number: Decimal | None = stated
        if "calculated" in words:
            number = calculated
        elif words & {"difference", "delta"} and stated is not None:
            number = calculated - stated if calculated is not None else None
        elif line and "quantity" in words:
            number = line.quantity
        elif line and words & {"price", "unit"}:
            number = line.unit_price
        kind = _resolve(object_of(inner), root)[0].get("type")
        if kind == "boolean":
            row[name] = bool(check and not check.is_wrong)
        elif kind in ("number", "integer"):
            row[name] = _as_number(number, integer=kind == "integer") or 0
        else:
            of_label = not words & {"stated", "calculated", "quantity", "price"}
            row[name] = label if of_label else str(number)
    return row


def _number(words: list[str], facts: Facts) -> Decimal | None:
    total = next((check for check in facts.checks if check.is_total), None)
    stated = next((d.total for d in facts.documents if d.total is not None), None)
    if {"difference", "delta", "deviation"} & set(words) and total and total.stated:
        return (total.calculated or total.stated) - total.stated
    if _TOTALS & set(words):
        is_calculated = "calculated" in words
        return (total.calculated if total else None) if is_calculated else stated
    if _PROBLEMS & set(words):
        return Decimal(len(facts.wrong))
    labelled = _labelled(words, facts)
    found = re.search(NUMBER, labelled) if labelled else None
    return parse_number(found[0]) if found else None


def _boolean(words: list[str], facts: Facts) -> bool | None:
    if facts.checks and _DISAGREES & set(words):
        return not facts.is_sound
    if facts.checks and _AGREES & set(words):
        return facts.is_sound
    meaning = [word for word in words if len(word) > 3]  # noqa: PLR2004
    return bool(meaning) and all(_occurrences(word, facts.text) for word in meaning)


def _string(words: list[str], facts: Facts, form: str) -> str | None:
    every, value = set(words), _labelled(words, facts)
    if value is not None:
        return _iso_date(value) if form == "date" else value
    if "currency" in every:
        return next((each.currency for each in facts.documents if each.currency), None)
    if "number" in every:
        return _number_in_prose(words, facts.text)
    if "supplier" in every and facts.was_read:
        return facts.documents[0].letterhead
    writer = next((write for words, write in _WRITERS if words & every), None)
    return writer(facts) if writer else None


def _labelled(words: list[str], facts: Facts) -> str | None:
    """Find the value whose label is most like the property's name."""
    best, likeness = None, 0.0
    for document in facts.documents:
        for label, value in document.labels:
            other = split_words(label)
            shared = len(set(words) & set(other)) / len({*words, *other, ""} - {""})
            shared += 0.1 if shared and words[-1:] == other[-1:] else 0
            if shared >= LABEL_LIKENESS_MIN and shared > likeness:
                best, likeness = value, shared
    return best


def _number_in_prose(words: list[str], text: str) -> str | None:
    head = r"\s+".join(re.escape(word) for word in words if word != "number")
    pattern = (
        rf"\b{head}\s*(?:number|no\b\.?|nr\b\.?|ref\w*\.?|id\b)?\s*(?:is|was)?\s*[:#]?"
        r"\s*((?=[\w-]*\d)[A-Za-z0-9][\w-]*)"
    )
    found = re.search(pattern, text, re.IGNORECASE)
    return found[1] if found else None


def _choose(options: list[str], facts: Facts) -> str:
    """Take the verdict on the sums, or the member whose signs occur most."""
    good = [each for each in options if _POSITIVE & set(split_words(each))]
    bad = [each for each in options if _NEGATIVE & set(split_words(each))]
    if good and bad and facts.checks:
        return (good if facts.is_sound else bad)[0]
    counts = [_occurrences(each, facts.text) for each in options]
    if max(counts):
        return options[counts.index(max(counts))]
    return next((each for each in _NEUTRAL if each in options), options[0])


def _occurrences(option: str, text: str) -> int:
    """How often the option's own words and their signs begin a word of the text."""
    words = split_words(option)
    signs = {each for word in words for each in _SIGNS.get(word, "").split()}
    pattern = "|".join(re.escape(each) for each in sorted({*words, *signs}) if each)
    return len(re.findall(rf"\b(?:{pattern})", text, re.IGNORECASE)) if pattern else 0


def _as_number(value: Decimal | None, *, integer: bool) -> float | int | None:
    if value is None:
        return None
    return int(value) if integer else float(value)


def _iso_date(value: str) -> str | None:
    """Read 14 October 2026 or 2026-10-14."""
    iso = re.search(r"\d{4}-\d\d-\d\d", value)
    if iso:
        return iso[0]
    months = [
        "jan",
        "feb",
        "mar",
        "apr",
        "may",
        "jun",
        "jul",
        "aug",
        "sep",
        "oct",
        "nov",
        "dec",
    ]
    found = re.search(r"(\d{1,2})\.? ([A-Za-z]{3})[a-z]* (\d{4})", value)
    if not found or found[2].lower() not in months:
        return None
    return f"{found[3]}-{months.index(found[2].lower()) + 1:02}-{int(found[1]):02}"


def split_words(name: str) -> list[str]:
    """Split snake_case, camelCase and plain words; synonyms become one word."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    words: Iterable[str] = re.findall(r"[a-z]+", spaced.lower())
    return [_SAME.get(word, word) for word in prose.stems(words)]
