"""The AI vendors that ai-broker knows: who can be called, how they fare, a check."""

from enum import StrEnum

from pydantic import Field

from contracts.credentials import VENDOR_PATTERN
from contracts.ids import TenantId
from contracts.message import Count, Message


class ListVendors(Message):
    """Ask who can answer."""

    tenant: TenantId | None = None
    """Whose view, its own keys counted; None is an admin's."""


class KeySource(StrEnum):
    """Whose key a vendor is called with."""

    OWN = "own"
    """The tenant's."""
    PLATFORM = "platform"
    """The platform's."""
    NONE = "none"
    """Nobody's: it takes none here, or lacks one."""


class BreakerState(StrEnum):
    """Whether calls of a model are let through."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class VendorModel(Message):
    """One model of a vendor, and how it fares with the replica that answers."""

    name: str
    """The vendor's name for it; ask for ``vendor/name``."""
    capabilities: tuple[str, ...] | None = None
    """What it can do: ``images``, ``tools``…; None is unknown."""
    context_tokens: Count | None = None
    """Its context window; None is unknown."""
    output_tokens_max: Count | None = None
    """Its longest answer; None is unknown."""
    breaker: BreakerState | None = None
    """Whether calls are let through; None before the first one here."""
    first_token_s: float | None = Field(default=None, ge=0)
    """Median time to the first token of its last calls here; None before any."""


class VendorInfo(Message):
    """One vendor of the catalogue."""

    name: str
    """``openai``."""
    protocol: str
    """What it speaks: ``openai`` or ``anthropic``."""
    usable: bool
    """Whether it can be called here."""
    key: KeySource
    """Whose key it is called with; never the key."""
    why_not: str | None = None
    """What it lacks, when it is not usable."""
    models: tuple[VendorModel, ...] = ()
    """The models that are listed."""
    other_models: bool = False
    """Whether models that are not listed may be asked for."""


class VendorPage(Message):
    """The vendors."""

    vendors: tuple[VendorInfo, ...]
    """By name."""
    instance: str
    """The replica that answers: breakers and latencies are its own."""


class CheckVendor(Message):
    """Have a vendor asked for its models: it costs nothing and needs the key."""

    tenant: TenantId | None = None
    """Whose key; None is the platform's."""
    vendor: str = Field(pattern=VENDOR_PATTERN)
    """``openai``."""


class Reach(StrEnum):
    """What a check found."""

    REACHABLE = "reachable"
    """It answered, and takes the key."""
    UNPROVEN = "unproven"
    """It answered, and has no list of models that would need the key."""
    UNUSABLE = "unusable"
    """It cannot be called here: nothing was sent."""
    KEY_REFUSED = "key-refused"
    """It does not take the key."""
    RATE_LIMITED = "rate-limited"
    """It takes no more calls now."""
    FAILING = "failing"
    """It answered with an error, or with what is not its protocol."""
    UNREACHABLE = "unreachable"
    """It did not answer, or not in time."""


class VendorCheck(Message):
    """What a check of one vendor found."""

    vendor: str
    """``openai``."""
    reach: Reach
    """What was found."""
    detail: str
    """In words, and what to do; never a key."""
    http_status: int | None = None
    """What it answered with; None without an answer."""
    took_s: float | None = Field(default=None, ge=0)
    """How long that took, in seconds; None when nothing was sent."""
