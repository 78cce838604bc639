"""
Faults on demand: a table from a fault's name to what the vendor then does.

A *refusal* answers with an error before any content. A *disturbance* lets the answer
begin and spoils it after a number of events (without streaming: after half of the
body). Rules are tried in order; the first that matches, still counts and wins its
throw applies. The header ``x-sandbox-fault`` beats all rules.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from sandbox.conversation import Conversation
from sandbox.payload import (
    Failure,
    FailureKind,
    Json,
    JsonObject,
    bad_request,
    object_of,
    text_of,
)
from sandbox.world import Dice, make_dice

RULES_MAX: Final = 1000
DELAY_MS_MAX: Final = 3_600_000


class Disturbance(StrEnum):
    """What spoils a call that the vendor did not refuse."""

    HANG = "hang"
    CUT = "cut"
    STALL = "stall"
    SLOW = "slow"
    BAD_JSON = "bad_json"
    ERROR_EVENT = "error_event"


@dataclass(frozen=True)
class Behaviour:
    """One row of the table: a refusal or a disturbance, and its usual delay."""

    refusal: Failure | None = None
    disturbance: Disturbance | None = None
    delay_ms: int = 0


BEHAVIOURS: Final = {
    "rate_limited_429": Behaviour(
        Failure(
            FailureKind.RATE_LIMITED,
            "Rate limit reached for this model. Try again in 1s.",
            headers=(("retry-after", "1"), ("retry-after-ms", "1000")),
        )
    ),
    "overloaded_529": Behaviour(Failure(FailureKind.OVERLOADED, "Overloaded")),
    "error_500": Behaviour(
        Failure(FailureKind.SERVER_ERROR, "The server had an error. Please retry.")
    ),
    "unavailable_503": Behaviour(
        Failure(FailureKind.UNAVAILABLE, "The service is temporarily unavailable.")
    ),
    "timeout": Behaviour(disturbance=Disturbance.HANG, delay_ms=DELAY_MS_MAX),
    "cut": Behaviour(disturbance=Disturbance.CUT),
    "stall": Behaviour(disturbance=Disturbance.STALL, delay_ms=DELAY_MS_MAX),
    "slow": Behaviour(disturbance=Disturbance.SLOW, delay_ms=50),
    "bad_json": Behaviour(disturbance=Disturbance.BAD_JSON),
    "stream_error": Behaviour(
        Failure(FailureKind.OVERLOADED, "Overloaded"), Disturbance.ERROR_EVENT
    ),
}


@dataclass(frozen=True)
class Fault:
    """A fault about to happen; ``after_events`` events go out untouched before."""

    name: str
    after_events: int = 1
    delay_ms: int | None = None

    @property
    def behaviour(self) -> Behaviour:
        """What the table says, with this fault's own delay."""
        known = BEHAVIOURS[self.name]
        return (
            known if self.delay_ms is None else replace(known, delay_ms=self.delay_ms)
        )


@dataclass
class Rule:
    """A fault, whom it hits, how often and how likely; ``count`` None is for ever."""

    fault: Fault
    protocol: str = ""
    model: str = ""
    contains: str = ""
    count: int | None = None
    probability: float = 1.0
    dice: Dice = field(default_factory=lambda: make_dice(0))

    def hits(self, protocol: str, conversation: Conversation) -> bool:
        """Match, count down and throw the dice."""
        if self.protocol not in ("", protocol) or self.count == 0:
            return False
        if self.model not in ("", conversation.model):
            return False
        if self.contains and not any(
            self.contains in turn.text for turn in conversation.turns
        ):
            return False
        if self.probability < 1 and self.dice.random() >= self.probability:
            return False
        if self.count is not None:
            self.count -= 1
        return True


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def replace(self, rules: list[Rule]) -> None:
        """Put other rules in force."""
        self._rules = rules

    def pick(
        self, header: str | None, protocol: str, conversation: Conversation
    ) -> Fault | None:
        """Return the fault of this call, None for a good one."""
        if header:
            return parse_header(header)
        hits = (rule for rule in self._rules if rule.hits(protocol, conversation))
        hit = next(hits, None)
        return hit.fault if hit else None


def parse_header(header: str) -> Fault:
    """
    Read ``cut;after_events=3;delay_ms=100``.

    Raises:
        RequestRefused: The fault is unknown or a number is none.
    """
    name, *pairs = (part.strip() for part in header.split(";"))
    numbers: JsonObject = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not value.strip().isdigit():
            message = f"x-sandbox-fault: '{pair}' is not <name>=<whole number>"
            raise bad_request(message, "x-sandbox-fault")
        numbers[key.strip()] = int(value)
    return _fault(name, numbers)


def parse_rules(value: Json) -> list[Rule]:
    """
    Read the list that is put to ``/sandbox/faults``.

    Raises:
        RequestRefused: The list or one of its rules is malformed.
    """
    if not isinstance(value, list) or len(value) > RULES_MAX:
        message = f"send a JSON list of at most {RULES_MAX} rules"
        raise bad_request(message)
    return [_rule(object_of(each)) for each in value]


def _rule(rule: JsonObject) -> Rule:
    match, count, odds = object_of(rule.get("match")), rule.get("count"), 1.0
    given, seed = rule.get("probability"), rule.get("seed")
    if isinstance(given, int | float):
        odds = float(given)
    return Rule(
        fault=_fault(text_of(rule.get("fault")), rule),
        protocol=text_of(match.get("protocol")),
        model=text_of(match.get("model")),
        contains=text_of(match.get("contains")),
        count=count if isinstance(count, int) else None,
        probability=odds,
        dice=make_dice(seed if isinstance(seed, int) else 0),
    )


def _fault(name: str, numbers: JsonObject) -> Fault:
    if name not in BEHAVIOURS:
        message = f"unknown fault '{name}'; known are: {', '.join(BEHAVIOURS)}"
        raise bad_request(message, "fault")
    after, delay = numbers.get("after_events"), numbers.get("delay_ms")
    return Fault(
        name,
        after if isinstance(after, int) else 1,
        min(delay, DELAY_MS_MAX) if isinstance(delay, int) else None,
    )
