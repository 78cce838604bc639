"""
Vendors, their models and the names that callers use: data, read from one file.

A completion asks for an alias (``smart``), for ``vendor/model``, or for a model by
its bare name, as the vendors' own SDKs do. An alias is an ordered list: those of
its candidates that are usable here are tried in this order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from pydantic import Field

from contracts.message import Document
from contracts.models import ModelInfo, ModelPage

OUTPUT_TOKENS_DEFAULT: Final = 8_192


class Protocol(StrEnum):
    """What a vendor speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class ModelEntry(Document):
    """One model of a vendor."""

    name: str
    """The vendor's name for it."""
    output_tokens_default: int = Field(default=OUTPUT_TOKENS_DEFAULT, ge=1)
    """Sent where the protocol wants a limit and the caller gave none."""


class VendorEntry(Document):
    """One vendor, and where its address and credentials come from."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,48}$")
    """``openai``."""
    protocol: Protocol
    """What it speaks."""
    base_url: str
    """Its address; ``{sandbox}`` stands for the sandbox vendor's, if there is one."""
    base_url_env: str | None = None
    """An environment variable that replaces the address."""
    key_envs: tuple[str, ...] = ()
    """Environment variables that may hold its key; the first that is set counts."""
    models: tuple[ModelEntry, ...] = ()
    """The models that are listed."""
    other_models: bool = False
    """Whether ``vendor/model`` may name a model that is not listed."""


class Catalogue(Document):
    """The file as it is written."""

    vendors: tuple[VendorEntry, ...]
    """In order of preference for bare model names."""
    aliases: dict[str, tuple[str, ...]]
    """Name → ``vendor/model``, first choice first."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A vendor's model that may answer."""

    vendor: str
    model: str
    output_tokens_default: int = OUTPUT_TOKENS_DEFAULT
    own_key: bool = False
    """Whether it is called with the tenant's own key."""


@dataclass(frozen=True)
class Endpoint:
    """Where a usable vendor is, and its key."""

    entry: VendorEntry
    base_url: str
    key: str = ""

    def __repr__(self) -> str:
        """Return a text without the key."""
        return f"Endpoint({self.entry.name})"


def usable(
    catalogue: Catalogue, environment: Mapping[str, str], sandbox_url: str | None
) -> tuple[Endpoint, ...]:
    """
    Return the vendors that can be called here.

    Args:
        catalogue: Every vendor known.
        environment: Where keys and addresses are looked up.
        sandbox_url: The sandbox vendor's address, None where it does not run.
    """
    endpoints = (
        _endpoint(each, environment, sandbox_url) for each in catalogue.vendors
    )
    return tuple(each for each in endpoints if each is not None)


def addresses(
    catalogue: Catalogue, environment: Mapping[str, str], sandbox_url: str | None
) -> dict[str, Endpoint]:
    """Return by name every vendor that a key of a tenant's own makes usable."""
    found: dict[str, Endpoint] = {}
    for entry in catalogue.vendors:
        keyed = dict(environment)
        # Any key will do: only the address is wanted.
        keyed.update(dict.fromkeys(entry.key_envs, "tenant's"))
        endpoint = _endpoint(entry, keyed, sandbox_url)
        if endpoint is not None:
            found[entry.name] = endpoint
    return found


def _endpoint(
    entry: VendorEntry, environment: Mapping[str, str], sandbox_url: str | None
) -> Endpoint | None:
    key = next((v for name in entry.key_envs if (v := environment.get(name))), "")
    if "{sandbox}" in entry.base_url:
        if sandbox_url is None:
            return None
        base_url = entry.base_url.replace("{sandbox}", sandbox_url.rstrip("/"))
        return Endpoint(entry, base_url, key or "sandbox")
    replaced = environment.get(entry.base_url_env) if entry.base_url_env else None
    if not key and not replaced:
        return None
    return Endpoint(entry, replaced or entry.base_url, key or "none")


@dataclass(frozen=True)
class Menu:
    """What can be asked for here: the catalogue, less what is not usable."""

    vendors: tuple[VendorEntry, ...]
    aliases: Mapping[str, tuple[str, ...]]
    own: frozenset[str] = frozenset()
    """The vendors that are called with the tenant's own key."""

    def with_own(self, entries: tuple[VendorEntry, ...]) -> "Menu":
        """Return a tenant's menu: what it has keys of its own for comes first."""
        own = frozenset(each.name for each in entries)
        others = tuple(each for each in self.vendors if each.name not in own)
        return replace(self, vendors=entries + others, own=own)

    def candidates(self, name: str) -> tuple[Candidate, ...]:
        """Return who may answer for a name, first choice first; empty if unknown."""
        return tuple(
            replace(each, own_key=each.vendor in self.own) for each in self._for(name)
        )

    def _for(self, name: str) -> tuple[Candidate, ...]:
        if name in self.aliases:
            found = (self._named(each) for each in self.aliases[name])
            return tuple(each for each in found if each is not None)
        named = self._named(name)
        if named is not None:
            return (named,)
        return tuple(
            Candidate(vendor.name, model.name, model.output_tokens_default)
            for vendor in self.vendors
            for model in vendor.models
            if model.name == name
        )

    def listing(self) -> ModelPage:
        """Return the names that a caller may use, by id."""
        models = [
            ModelInfo(
                id=f"{vendor.name}/{model.name}", vendor=vendor.name, model=model.name
            )
            for vendor in self.vendors
            for model in vendor.models
        ]
        for alias in self.aliases:
            models.extend(
                ModelInfo(
                    id=alias, vendor=first.vendor, model=first.model, is_alias=True
                )
                for first in self.candidates(alias)[:1]
            )
        return ModelPage(models=tuple(sorted(models, key=lambda each: each.id)))

    def _named(self, name: str) -> Candidate | None:
        vendor_name, _, model_name = name.partition("/")
        for vendor in self.vendors:
            if vendor.name != vendor_name or not model_name:
                continue
            for model in vendor.models:
                if model.name == model_name:
                    default = model.output_tokens_default
                    return Candidate(vendor.name, model.name, default)
            if vendor.other_models:
                return Candidate(vendor.name, model_name)
        return None
