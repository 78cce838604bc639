"""
Which calls a fault hits: rules tried in order, the first that hits applies.

Chance is drawn from the rule's seed and the id that the client gave its request, so
that neither the order of arrival nor concurrency changes which calls are hit; calls
without an id are drawn in the order in which they come. The header
``x-sandbox-fault`` beats all rules.
"""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final

from sandbox.faults import BEHAVIOURS, DELAY_MS_MAX, Fault, Point
from sandbox.payload import Json, JsonObject, bad_request, object_of, text_of

RULES_MAX: Final = 1000
EVENTS_MAX: Final = 1_000_000
PERCENT_MAX: Final = 100_000
_RULE: Final = {"match", "count", "probability", "seed", "mix"}
_MATCH: Final = {"protocol", "model", "contains"}
_MIX: Final = {"seed", "rate", "faults", "by"}
_FAULT: Final = {"fault", "after_events", "at", "delay_ms", "percent", "headers"}
_FULL: Final = 1 << 64


@dataclass(frozen=True)
class Call:
    """What a rule looks at in a call."""

    protocol: str
    model: str
    texts: Sequence[str]
    client_request_id: str


@dataclass(frozen=True)
class Choice:
    """A fault of a mix with its weight; the range is drawn for each call anew."""

    fault: Fault
    weight: int = 1
    events_from_to: tuple[int, int] | None = None


@dataclass
class Rule:
    """Faults, whom they hit, how often and how likely; ``count`` None is for ever."""

    choices: tuple[Choice, ...]
    rate: float = 1.0
    seed: int = 0
    protocol: str = ""
    model: str = ""
    contains: str = ""
    count: int | None = None
    by_prompt: bool = False
    arrivals: Counter[str] = field(default_factory=Counter[str], init=False)

    def pick(self, call: Call) -> Fault | None:
        """Match, draw and count down."""
        if self.protocol not in ("", call.protocol) or self.count == 0:
            return None
        if self.model not in ("", call.model):
            return None
        if self.contains and not any(self.contains in text for text in call.texts):
            return None
        name = self._name(call)
        if _draw(self.seed, name, "hit") >= self.rate * _FULL:
            return None
        if self.count is not None:
            self.count -= 1
        return self._draw_fault(name)

    def _name(self, call: Call) -> str:
        """Return what the call's draws depend on, beside the seed."""
        prompt = call.texts[-1] if self.by_prompt and call.texts else ""
        if call.client_request_id and not self.by_prompt:
            return call.client_request_id
        self.arrivals[prompt] += 1
        return f"{prompt}#{self.arrivals[prompt]}"

    def _draw_fault(self, name: str) -> Fault:
        edges = list(accumulate(choice.weight for choice in self.choices))
        lot = _draw(self.seed, name, "fault") % edges[-1]
        choice = self.choices[bisect_right(edges, lot)]
        if choice.events_from_to is None:
            return choice.fault
        low, high = choice.events_from_to
        after = low + _draw(self.seed, name, "events") % (high - low + 1)
        return replace(choice.fault, after_events=after)


class Rules:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def replace(self, rules: list[Rule]) -> None:
        """Put other rules in force."""
        self._rules = rules

    def pick(self, header: str | None, call: Call) -> Fault | None:
        """
        Return the fault of this call, None for a good one.

        Raises:
            RequestRefused: The header is malformed.
        """
        if header:
            return parse_header(header)
        picked = (rule.pick(call) for rule in self._rules)
        return next((fault for fault in picked if fault), None)


def parse_header(header: str) -> Fault:
    """
    Read ``cut;after_events=3;delay_ms=100`` or ``cut;at=end``.

    Raises:
        RequestRefused: The fault is unknown or a field malformed.
    """
    name, *pairs = (part.strip() for part in header.split(";"))
    fields: JsonObject = {"fault": name}
    for pair in pairs:
        key, _, value = (part.strip() for part in pair.partition("="))
        fields[key] = int(value) if value.isdecimal() else value
    return _fault(fields, "x-sandbox-fault", _FAULT)


def parse_rules(value: Json) -> list[Rule]:
    """
    Read the list that is put to ``/sandbox/faults``.

    Raises:
        RequestRefused: The list or one of its rules is malformed.
    """
    if not isinstance(value, list) or len(value) > RULES_MAX:
        message = f"send a JSON list of at most {RULES_MAX} rules"
        raise bad_request(message)
    return [_rule(object_of(each), f"rules[{at}]") for at, each in enumerate(value)]


def _rule(rule: JsonObject, place: str) -> Rule:
    match, mix = object_of(rule.get("match")), rule.get("mix")
    _require_known(match, _MATCH, f"{place}.match")
    if isinstance(mix, dict):
        _require_known(rule, {"match", "count", "mix"}, place)
        _require_known(mix, _MIX, f"{place}.mix")
        listed = mix.get("faults")
        if not isinstance(listed, list) or not listed:
            message = f"{place}.mix.faults: give a list of at least one fault"
            raise bad_request(message, "faults")
        choices = tuple(_choice(each, f"{place}.mix.faults") for each in listed)
        rate, seed = mix.get("rate"), mix.get("seed")
        by = mix.get("by", "request")
        if by not in ("request", "prompt"):
            message = f"{place}.mix.by is request or prompt, not {by!r}"
            raise bad_request(message, "by")
    else:
        by = "request"
        choices = (Choice(_fault(rule, place, _FAULT | _RULE)),)
        rate, seed = rule.get("probability"), rule.get("seed")
    if rate is not None and not (isinstance(rate, int | float) and 0 <= rate <= 1):
        message = f"{place}: a rate is a number from 0 to 1, not {rate!r}"
        raise bad_request(message, "rate")
    count = _number(rule, "count", EVENTS_MAX, place)
    return Rule(
        choices,
        rate=1.0 if rate is None else float(rate),
        seed=seed if isinstance(seed, int) else 0,
        protocol=text_of(match.get("protocol")),
        model=text_of(match.get("model")),
        contains=text_of(match.get("contains")),
        count=count,
        by_prompt=by == "prompt",
    )


def _choice(value: Json, place: str) -> Choice:
    """Read a fault's name, or a fault with its weight and a range of events."""
    fields: JsonObject = (
        {"fault": value} if isinstance(value, str) else dict(object_of(value))
    )
    weight = _number(fields, "weight", RULES_MAX, place) or 1
    span = fields.get("after_events")
    if not isinstance(span, list):
        return Choice(_fault(fields, place, _FAULT | {"weight"}), weight)
    match span:
        case [int() as low, int() as high] if 0 <= low <= high <= EVENTS_MAX:
            fields["after_events"] = low
        case _:
            message = f"{place}: after_events is a number or [from, to], not {span}"
            raise bad_request(message, "after_events")
    return Choice(_fault(fields, place, _FAULT | {"weight"}), weight, (low, high))


def _fault(fields: JsonObject, place: str, known: set[str]) -> Fault:
    name, at = text_of(fields.get("fault")), fields.get("at")
    if name not in BEHAVIOURS:
        message = f"unknown fault '{name}'; known are: {', '.join(BEHAVIOURS)}"
        raise bad_request(message, "fault")
    _require_known(fields, known, place)
    if at is not None and at not in list(Point):
        message = f"{place}: 'at' is start or end, not {at!r}"
        raise bad_request(message, "at")
    percent = _number(fields, "percent", PERCENT_MAX, place)
    headers = object_of(fields.get("headers"))
    return Fault(
        name,
        after_events=_number(fields, "after_events", EVENTS_MAX, place),
        at=Point(at) if isinstance(at, str) else None,
        delay_ms=_number(fields, "delay_ms", DELAY_MS_MAX, place),
        percent=150 if percent is None else percent,
        headers={key: text_of(value) for key, value in headers.items()},
    )


def _number(fields: JsonObject, name: str, most: int, place: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        message = f"{place}: '{name}' is a whole number, not {value!r}"
        raise bad_request(message, name)
    return min(value, most)


def _require_known(fields: JsonObject, known: set[str], place: str) -> None:
    unknown = sorted(set(fields) - known)
    if unknown:
        message = f"{place}: unknown '{unknown[0]}'; known: {', '.join(sorted(known))}"
        raise bad_request(message, unknown[0])


def _draw(seed: int, name: str, what: str) -> int:
    """Draw 64 bits that depend on these three alone."""
    lot = hashlib.blake2b(f"{seed}/{what}/{name}".encode(), digest_size=8)
    return int.from_bytes(lot.digest(), "big")
