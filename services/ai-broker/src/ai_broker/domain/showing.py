"""What may be known of the vendors: never a key, never an address."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ai_broker.domain.breaker import State
from ai_broker.domain.catalogue import Menu, ModelEntry, VendorEntry
from ai_broker.domain.vendor import Failure, FailureKind
from ai_broker.domain.verdict import RATE_LIMITED
from contracts.vendors import (
    BreakerState,
    KeySource,
    Reach,
    VendorInfo,
    VendorModel,
    VendorPage,
)

KEY_REFUSED: Final = frozenset({401, 403})
NO_SUCH_PATH: Final = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True)
class Glimpse:
    """How one vendor's model fares here."""

    breaker: State
    first_token_s: float | None


def vendor_page(menu: Menu, seen: Mapping[str, Glimpse], instance: str) -> VendorPage:
    """
    Return every vendor of the catalogue, usable or not, by name.

    Args:
        menu: Whose view it is.
        seen: How models fare, by ``vendor/model``, as far as this replica knows.
        instance: This replica.
    """
    usable = [_info(each, menu, seen, why_not=None) for each in menu.vendors]
    others = [_info(each, menu, seen, why_not=lack_of(each)) for each in menu.unusable]
    found = sorted([*usable, *others], key=lambda each: each.name)
    return VendorPage(vendors=tuple(found), instance=instance)


def lack_of(entry: VendorEntry) -> str:
    """Say what a vendor that cannot be called here lacks."""
    if "{sandbox}" in entry.base_url:
        return "the sandbox vendor does not run here"
    if not entry.base_url:
        return f"its address is not set here: {entry.base_url_env}"
    return f"no key for it is set here: {' or '.join(entry.key_envs)}"


def reach_of(failure: Failure) -> Reach:
    """Say what a failed question for a vendor's models tells of the vendor."""
    match failure.kind:
        case FailureKind.UNREACHED | FailureKind.LOST | FailureKind.SILENT:
            return Reach.UNREACHABLE
        case FailureKind.REFUSED if failure.status in KEY_REFUSED:
            return Reach.KEY_REFUSED
        case FailureKind.REFUSED if failure.status in NO_SUCH_PATH:
            return Reach.UNPROVEN
        case FailureKind.REFUSED if failure.status == RATE_LIMITED:
            return Reach.RATE_LIMITED
        case _:
            return Reach.FAILING


def _info(
    entry: VendorEntry, menu: Menu, seen: Mapping[str, Glimpse], *, why_not: str | None
) -> VendorInfo:
    return VendorInfo(
        name=entry.name,
        protocol=entry.protocol,
        usable=why_not is None,
        key=_key_of(entry.name, menu),
        why_not=why_not,
        models=tuple(
            _model(each, seen.get(f"{entry.name}/{each.name}")) for each in entry.models
        ),
        other_models=entry.other_models,
    )


def _key_of(vendor: str, menu: Menu) -> KeySource:
    if vendor in menu.own:
        return KeySource.OWN
    return KeySource.PLATFORM if vendor in menu.keyed else KeySource.NONE


def _model(entry: ModelEntry, glimpse: Glimpse | None) -> VendorModel:
    able = entry.capabilities
    return VendorModel(
        name=entry.name,
        capabilities=None if able is None else tuple(sorted(able)),
        context_tokens=entry.context_tokens,
        output_tokens_max=entry.output_tokens_max,
        breaker=None if glimpse is None else BreakerState(glimpse.breaker.value),
        first_token_s=None if glimpse is None else glimpse.first_token_s,
    )
