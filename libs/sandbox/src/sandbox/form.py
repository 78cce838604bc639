"""
Fill a JSON Schema, property by property, from the facts.

A value is the one whose label is most like the property's name, else the one whose
label is all in the description, else text is the gist. A boolean says whether all sums
are right, without sums whether its words occur. An enum is the verdict on the sums if
a member assents, else the member that occurs most, else the last. An array has the
wrong sums or the items. What nothing tells is null if it may be, else 0 or "unknown".
"""

import re
from functools import reduce
from typing import Final

from sandbox.facts import NUMBER, Facts, parse_number, words
from sandbox.payload import Json, JsonObject, list_of, object_of, text_of

DEPTH_MAX: Final = 10
LIKENESS_MIN: Final = 0.5
ASSENT: Final = {*words("pay approve accept valid pass yes correct match")}
FAULTS: Final = {*words("discrepancy difference error mismatch wrong problem issue")}
ITEMS: Final = {*words("line item position")}
VARIANTS: Final = ("$ref", "anyOf", "oneOf", "allOf")


def fill(
    schema: JsonObject, facts: Facts, root: JsonObject, name: str = "", depth: int = 0
) -> Json:
    """Return what the schema asks for under a name; references are into the root."""
    schema, nullable = _resolve(schema, root)
    kind = "object" if "properties" in schema else schema.get("type")
    about, hint = {*words(name)}, text_of(schema.get("description"))
    if "enum" in schema or "const" in schema:
        return _choose(list_of(schema.get("enum")) or [schema.get("const")], facts)
    if kind == "boolean":
        is_said = bool(about) and about <= {*words(facts.text)}
        holds = not facts.wrong if facts.claims else is_said
        return holds is not bool(about & FAULTS)
    if kind == "array":
        items = [each for each in facts.claims if each.kind == "item" and about & ITEMS]
        rows = [
            Facts(c.label, c.labels) for c in (facts.wrong if about & FAULTS else items)
        ]
        inside = object_of(schema.get("items"))
        return [fill(inside, each, root, "", depth + 1) for each in rows]
    if kind == "object" and depth < DEPTH_MAX:
        inner = object_of(schema.get("properties")).items()
        return {k: fill(object_of(v), facts, root, k, depth + 1) for k, v in inner}
    told = _told(name, "" if nullable else hint, facts)
    if told is None and (nullable or kind in ("null", "object")):
        return None
    if kind in ("number", "integer"):
        found = re.search(NUMBER, told or "")
        number = float(parse_number(found[0])) if found else 0.0
        return number if kind == "number" else int(number)
    return told or facts.gist(f"{name} {hint}") or "unknown"


def _resolve(schema: JsonObject, root: JsonObject) -> tuple[JsonObject, bool]:
    """Follow references and take the first variant; tell whether one is null."""
    variants: list[Json] = [{"type": each} for each in list_of(schema.get("type"))]
    variants += [each for key in VARIANTS for each in list_of(schema.get(key))]
    if "$ref" in schema:
        path = text_of(schema["$ref"]).split("/")[1:]
        variants = [reduce(lambda at, step: object_of(at.get(step)), path, root)]
    some = [object_of(each) for each in variants if each != {"type": "null"}]
    if not some:
        return schema, False
    rest = {key: each for key, each in schema.items() if key not in VARIANTS}
    inner, nullable = _resolve({**rest, **some[0]}, root)
    return inner, nullable or len(some) < len(variants)


def _choose(members: list[Json], facts: Facts) -> Json:
    yes = [each for each in members if ASSENT & {*words(str(each))}]
    no = [each for each in members if each not in yes]
    if yes and no:
        return (yes if facts.claims and not facts.wrong else no)[0]
    said = words(facts.text)
    counts = [sum(map(said.count, words(str(each)))) for each in members]
    return members[counts.index(max(counts)) if any(counts) else -1]


def _told(name: str, hint: str, facts: Facts) -> str | None:
    """Find the value whose label is like the name, or is all in the hint."""
    wanted, hinted = {*words(name)}, {*words(hint)}

    def likeness(label: str) -> float:
        own = {*words(label)}
        like = len(own & wanted) / len(own | wanted or {""})
        is_hinted = bool(own) and own <= hinted
        return like if like >= LIKENESS_MIN else is_hinted * LIKENESS_MIN / 2

    best = max(facts.labels, key=likeness, default="")
    return facts.labels[best] if best and likeness(best) else None
