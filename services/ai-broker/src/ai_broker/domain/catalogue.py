"""
Vendors, their models and the names that callers use: data, read from one file.

A completion asks for an alias (``smart``), for ``vendor/model``, or for a model by
its bare name, as the vendors' own SDKs do. An alias is an ordered list: those of
its candidates that are usable here are tried in this order.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pydantic import Field

from ai_broker.domain.policy import Alias
from ai_broker.domain.quirks import Quirks, RequestField, Thinking
from contracts.ids import TenantId
from contracts.message import Document
from contracts.models import ModelInfo, ModelPage

OUTPUT_TOKENS_DEFAULT: Final = 8_192


class Protocol(StrEnum):
    """What a vendor speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Abort(StrEnum):
    """What is done with a call that nobody waits for any more."""

    DRAIN = "drain"
    """Read it to its end in the background: the vendor bills it whole."""
    ESTIMATE = "cancel-and-estimate"
    """Hang up, and estimate what was written until then."""
    NO_BILL = "no-bill"
    """Hang up: the vendor bills nothing of a call that was cancelled."""


class Capability(StrEnum):
    """What a model can do."""

    TEXT = "text"
    STREAMING = "streaming"
    IMAGES = "images"
    DOCUMENTS = "documents"
    TOOLS = "tools"
    PARALLEL_TOOLS = "parallel-tools"
    STRUCTURED_OUTPUT = "structured-output"
    THINKING = "thinking"
    LOGPROBS = "logprobs"
    EMBEDDINGS = "embeddings"


class RateLimits(Document):
    """What a vendor takes per minute before it answers 429."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Calls; None is unknown."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Input and output together; None is unknown."""


NO_LIMITS: Final = RateLimits()
"""Rates of which nothing is known."""


class ModelEntry(Document):
    """One model of a vendor."""

    name: str
    """The vendor's name for it."""
    output_tokens_default: int = Field(default=OUTPUT_TOKENS_DEFAULT, ge=1)
    """Sent where the protocol wants a limit and the caller gave none."""
    capabilities: frozenset[Capability] | None = None
    """What it can do; None is unknown, and nothing is refused for it."""
    context_tokens: int | None = Field(default=None, ge=1)
    """Its context window; None is unknown."""
    output_tokens_max: int | None = Field(default=None, ge=1)
    """The longest answer that may be asked for; None is unknown."""
    limits: RateLimits = RateLimits()
    """Its own rates, where they differ from its vendor's."""
    first_token_s: float | None = Field(default=None, gt=0, le=3_600)
    """How long its first content may take; None goes by what it usually takes."""
    refuses: frozenset[RequestField] = frozenset()
    """Request fields that this model refuses, beside those of its vendor."""
    thinking: Thinking | None = None
    """How this model is told to think, where it differs from its vendor's way."""


class VendorEntry(Document):
    """One vendor, and where its address and credentials come from."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,48}$")
    """``openai``."""
    protocol: Protocol
    """What it speaks."""
    base_url: str = ""
    """
    Its address, empty where only the environment has it; ``{sandbox}`` stands for the
    sandbox vendor's, if there is one.
    """
    base_url_env: str | None = None
    """An environment variable that replaces the address."""
    base_path: str = ""
    """Appended to an address from the environment: Azure's ``/openai/v1``."""
    key_envs: tuple[str, ...] = ()
    """Environment variables that may hold its key; the first that is set counts."""
    key_header: str | None = None
    """Carries the key; None is the protocol's own header."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every call; never a secret."""
    query: dict[str, str] = Field(default_factory=dict)
    """Appended to the address of every call: Azure's ``api-version``."""
    quirks: Quirks = Quirks()
    """How it departs from the protocol."""
    limits: RateLimits = RateLimits()
    """Its rates, as far as they are known."""
    abort: Abort = Abort.ESTIMATE
    """What is done with a call that nobody waits for any more."""
    models: tuple[ModelEntry, ...] = ()
    """The models that are listed."""
    other_models: bool = False
    """Whether ``vendor/model`` may name a model that is not listed."""


class TenantEntry(Document):
    """What one tenant has beside what all have."""

    aliases: dict[str, Alias] = Field(default_factory=dict)
    """Its own names; one that all have too means the tenant's."""


class Catalogue(Document):
    """The file as it is written."""

    vendors: tuple[VendorEntry, ...]
    """In order of preference for bare model names."""
    aliases: dict[str, Alias]
    """Name → ``vendor/model``s, first choice first, and how to choose among them."""
    tenants: dict[TenantId, TenantEntry] = Field(default_factory=dict)
    """What single tenants have of their own."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A vendor's model that may answer, with what is known of it."""

    vendor: str
    model: str
    output_tokens_default: int = OUTPUT_TOKENS_DEFAULT
    capabilities: frozenset[Capability] | None = None
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    limits: RateLimits = NO_LIMITS
    own_key: bool = False
    """Whether it is called with the tenant's own key."""
    first_token_s: float | None = None
    protocol: Protocol = Protocol.OPENAI
    abort: Abort = Abort.ESTIMATE

    @property
    def name(self) -> str:
        """Return ``vendor/model``."""
        return f"{self.vendor}/{self.model}"


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


def keyed(catalogue: Catalogue, environment: Mapping[str, str]) -> frozenset[str]:
    """Return the vendors that the platform has a key for."""
    return frozenset(
        each.name
        for each in catalogue.vendors
        if any(environment.get(name) for name in each.key_envs)
    )


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
    if replaced:
        base_url = replaced.rstrip("/").removesuffix(entry.base_path)
        return Endpoint(entry, base_url + entry.base_path, key or "none")
    if not key or not entry.base_url:
        return None
    return Endpoint(entry, entry.base_url, key)


@dataclass(frozen=True)
class Menu:
    """What can be asked for here: the catalogue, less what is not usable."""

    vendors: tuple[VendorEntry, ...]
    aliases: Mapping[str, Alias]
    tenants: Mapping[str, Mapping[str, Alias]] = field(
        default_factory=dict[str, Mapping[str, Alias]]
    )
    """Single tenants' own aliases."""
    own: frozenset[str] = frozenset()
    """The vendors that are called with the tenant's own key."""
    unusable: tuple[VendorEntry, ...] = ()
    """Vendors of the catalogue that cannot be called here."""
    keyed: frozenset[str] = frozenset()
    """The vendors that the platform has a key for."""

    def with_own(self, entries: tuple[VendorEntry, ...]) -> "Menu":
        """Return a tenant's menu: what it has keys of its own for comes first."""
        own = frozenset(each.name for each in entries)
        others = tuple(each for each in self.vendors if each.name not in own)
        unusable = tuple(each for each in self.unusable if each.name not in own)
        return replace(self, vendors=entries + others, own=own, unusable=unusable)

    def alias(self, name: str, tenant: str = "") -> Alias | None:
        """Return how a name chooses among its candidates; None for a plain model."""
        return self.tenants.get(tenant, {}).get(name) or self.aliases.get(name)

    def candidates(self, name: str, tenant: str = "") -> tuple[Candidate, ...]:
        """Return who may answer for a name, first choice first; empty if unknown."""
        return tuple(
            replace(each, own_key=each.vendor in self.own)
            for each in self._for(name, tenant)
        )

    def _for(self, name: str, tenant: str) -> tuple[Candidate, ...]:
        alias = self.alias(name, tenant)
        if alias is not None:
            found = (self._named(each.model) for each in alias.models)
            return tuple(each for each in found if each is not None)
        named = self._named(name)
        if named is not None:
            return (named,)
        return tuple(
            candidate(vendor, model)
            for vendor in self.vendors
            for model in vendor.models
            if model.name == name
        )

    def listing(self, tenant: str = "") -> ModelPage:
        """Return the names that a caller may use, by id."""
        models = [
            ModelInfo(
                id=f"{vendor.name}/{model.name}", vendor=vendor.name, model=model.name
            )
            for vendor in self.vendors
            for model in vendor.models
        ]
        for alias in {**self.aliases, **self.tenants.get(tenant, {})}:
            models.extend(
                ModelInfo(
                    id=alias, vendor=first.vendor, model=first.model, is_alias=True
                )
                for first in self.candidates(alias, tenant)[:1]
            )
        return ModelPage(models=tuple(sorted(models, key=lambda each: each.id)))

    def _named(self, name: str) -> Candidate | None:
        vendor_name, _, model_name = name.partition("/")
        for vendor in self.vendors:
            if vendor.name != vendor_name or not model_name:
                continue
            for model in vendor.models:
                if model.name == model_name:
                    return candidate(vendor, model)
            if vendor.other_models:
                return candidate(vendor, ModelEntry(name=model_name))
        return None


def menu_of(
    catalogue: Catalogue, usable: Collection[str], keyed: Collection[str] = ()
) -> Menu:
    """Return the menu where these vendors can be called, and the platform has keys."""
    entries = [each for each in catalogue.vendors if each.name in usable]
    others = [each for each in catalogue.vendors if each.name not in usable]
    tenants = {name: each.aliases for name, each in catalogue.tenants.items()}
    return Menu(
        tuple(entries),
        catalogue.aliases,
        tenants,
        unusable=tuple(others),
        keyed=frozenset(keyed),
    )


def candidate(
    vendor: VendorEntry, model: ModelEntry, *, own_key: bool = False
) -> Candidate:
    """Return a model as one that may answer."""
    return Candidate(
        vendor=vendor.name,
        model=model.name,
        output_tokens_default=model.output_tokens_default,
        capabilities=model.capabilities,
        context_tokens=model.context_tokens,
        output_tokens_max=model.output_tokens_max,
        limits=_limits(vendor.limits, model.limits),
        own_key=own_key,
        first_token_s=model.first_token_s,
        protocol=vendor.protocol,
        abort=vendor.abort,
    )


def quirks_of(vendor: VendorEntry, model: str) -> Quirks:
    """Return the quirks that a call of one model meets."""
    found = next((each for each in vendor.models if each.name == model), None)
    if found is None:
        return vendor.quirks
    changes: dict[str, object] = {
        "refuses": vendor.quirks.refuses | found.refuses,
        "thinking": found.thinking or vendor.quirks.thinking,
    }
    return vendor.quirks.model_copy(update=changes)


def _limits(vendor: RateLimits, model: RateLimits) -> RateLimits:
    return RateLimits(
        requests_per_minute=model.requests_per_minute or vendor.requests_per_minute,
        tokens_per_minute=model.tokens_per_minute or vendor.tokens_per_minute,
    )
