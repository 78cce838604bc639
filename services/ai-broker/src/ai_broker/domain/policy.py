"""
How an alias chooses among its candidates: in which order they are asked.

    priority   as listed
    weighted   drawn without putting back: first picks follow the weights exactly
    cheapest   by the price of this request at its worst; unknown prices last
    fastest    the better of two drawn ones by load, then the rest by load
    sticky     rendezvous hashing of the user (or task): the same one while it lasts

A tie goes to whoever is listed first. At the start nothing is known: ``cheapest``
without prices is ``priority``; ``fastest`` takes what has never been asked for free
while it is idle and for dear while its first call is out, so every candidate is
tried once before any is preferred. A weight of 0 is a last resort.

The order only says who is preferred; whether a candidate is asked now is
``routing``'s, which knows its breaker, its pace and this round's failures.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from pydantic import Field, model_validator

from ai_broker.domain.hedging import Hedge
from contracts.message import Document

_HASH_BITS: Final = 64


class Policy(StrEnum):
    """How candidates are ordered."""

    PRIORITY = "priority"
    WEIGHTED = "weighted"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"
    STICKY = "sticky"


class AliasModel(Document):
    """One candidate of an alias."""

    model: str
    """``vendor/model``."""
    weight: float = Field(default=1.0, ge=0, le=1_000_000)
    """Its share, for ``weighted`` and ``sticky``."""

    @model_validator(mode="before")
    @classmethod
    def accept_name(cls, value: object) -> object:
        """Take a plain name for the candidate."""
        return {"model": value} if isinstance(value, str) else value


class Alias(Document):
    """A name that callers use, and who may answer for it."""

    models: tuple[AliasModel, ...]
    """Who, in order of preference."""
    policy: Policy = Policy.PRIORITY
    """Who first."""
    hedge: Hedge | None = None
    """Whether a slow first call is helped by a second."""

    @model_validator(mode="before")
    @classmethod
    def accept_list(cls, value: object) -> object:
        """Take a plain list for the candidates."""
        fields: dict[str, object] = {"models": value}
        return fields if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class Standing:
    """What a policy may look at, of one candidate."""

    name: str
    """``vendor/model``."""
    weight: float = 1.0
    cost: int | None = None
    """Of this request at its worst, in pico-USD; None if unknown."""
    load: float = 0.0
    """``latency.load``."""


def ranked(
    policy: Policy, standings: Sequence[Standing], key: str, draws: Sequence[float]
) -> tuple[int, ...]:
    """
    Return the candidates' places in the order in which they should be asked.

    Args:
        policy: How.
        standings: The candidates as listed.
        key: Whom ``sticky`` sticks to.
        draws: From [0, 1), one per candidate and at least two.
    """
    places = range(len(standings))
    match policy:
        case Policy.PRIORITY:
            return tuple(places)
        case Policy.WEIGHTED:
            weights = [each.weight for each in standings]
            return _drawn(weights, [1.0 - draws[place] for place in places])
        case Policy.STICKY:
            weights = [each.weight for each in standings]
            return _drawn(weights, [_hash(key, each.name) for each in standings])
        case Policy.CHEAPEST:
            costs = [math.inf if each.cost is None else each.cost for each in standings]
            return tuple(sorted(places, key=lambda place: (costs[place], place)))
        case Policy.FASTEST:
            return _better_of_two([each.load for each in standings], draws)
        case _:
            assert_never(policy)


def _drawn(weights: Sequence[float], numbers: Sequence[float]) -> tuple[int, ...]:
    """
    Order by number^(1/weight), greatest first.

    With even random numbers from (0, 1] that is a weighted draw without putting back
    (Efraimidis and Spirakis, 2006); with hashes it is weighted rendezvous hashing.
    """

    def key(place: int) -> tuple[float, int]:
        weight = weights[place]
        return (-math.log(numbers[place]) / weight if weight else math.inf, place)

    return tuple(sorted(range(len(weights)), key=key))


def _hash(key: str, name: str) -> float:
    """Return an even number from (0, 1] that belongs to the pair."""
    digest = hashlib.blake2b(f"{key}\0{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 1) / 2.0**_HASH_BITS


def _better_of_two(loads: Sequence[float], draws: Sequence[float]) -> tuple[int, ...]:
    """Put the better of two drawn ones first; never the worse of them."""
    by_load = sorted(range(len(loads)), key=lambda place: (loads[place], place))
    if len(loads) < 2:  # noqa: PLR2004 -- two are drawn
        return tuple(by_load)
    one = int(draws[0] * len(loads))
    other = int(draws[1] * (len(loads) - 1))
    other += other >= one
    best = min(one, other, key=lambda place: (loads[place], place))
    return (best, *(place for place in by_load if place != best))
