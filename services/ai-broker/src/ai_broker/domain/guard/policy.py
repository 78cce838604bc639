"""What a tenant wants guarded: data, read from one file at the start."""

from enum import StrEnum
from typing import Final

from pydantic import Field, field_validator

from bounded import patterns
from contracts.message import Document

PATTERN_CHARACTERS_MAX: Final = 200
PATTERNS_MAX: Final = 32
PATTERN_WIDTH_MIN: Final = 3
SAMPLE_CHARACTERS: Final = 1_000
WAYS_PER_CHARACTER: Final = 50
"""In how many ways an own pattern may fail at each place: its only time bound."""


class Mode(StrEnum):
    """What happens to personal data."""

    OFF = "off"
    """It goes to the vendor as it is."""
    MASK = "mask"
    """The vendor sees placeholders, and so does whoever reads the answer."""
    RESTORE = "mask-and-restore"
    """The vendor sees placeholders; the answer has the values back."""


class Kind(StrEnum):
    """Personal data that is known without being told."""

    EMAIL = "email"
    CARD = "card"
    IBAN = "iban"
    SSN = "ssn"
    CN_ID = "cn-id"
    PHONE = "phone"
    IP = "ip"


class Binaries(StrEnum):
    """What happens to images and documents, which cannot be masked."""

    PASS = "pass"  # noqa: S105 -- not a password
    REFUSE = "refuse"


class OwnPattern(Document):
    """A tenant's own kind of personal data."""

    name: str = Field(pattern=r"^[A-Z]{2,16}(_[A-Z]{2,16}){0,2}$")
    """What its placeholders are called: ``EMPLOYEE_NUMBER``."""
    pattern: str = Field(min_length=1, max_length=PATTERN_CHARACTERS_MAX)
    """A regular expression without open-ended repeats."""

    @field_validator("pattern")
    @classmethod
    def _is_affordable(cls, pattern: str) -> str:
        budget = WAYS_PER_CHARACTER * (SAMPLE_CHARACTERS + 1)
        error = patterns.error_of(pattern, SAMPLE_CHARACTERS, budget)
        if error is not None:
            raise ValueError(error)
        if patterns.width(pattern) < PATTERN_WIDTH_MIN:
            raise ValueError(
                f"{pattern!r} can match fewer than {PATTERN_WIDTH_MIN} characters: "
                "it would mask ordinary text"
            )
        return pattern


class GuardPolicy(Document):
    """One tenant's wishes."""

    mode: Mode = Mode.OFF
    """Whether to mask, and whether to restore."""
    kinds: tuple[Kind, ...] = tuple(Kind)
    """What to look for."""
    patterns: tuple[OwnPattern, ...] = Field(default=(), max_length=PATTERNS_MAX)
    """What else to look for."""
    binaries: Binaries = Binaries.PASS
    """Whether images and documents may leave unmasked."""

    @field_validator("mode", mode="before")
    @classmethod
    def _yaml_reads_off_as_false(cls, value: object) -> object:
        return Mode.OFF if value is False else value


class GuardBook(Document):
    """The file as it is written."""

    default: GuardPolicy = GuardPolicy()
    """For tenants that are not named."""
    tenants: dict[str, GuardPolicy] = Field(default_factory=dict)
    """By tenant id."""

    def policy(self, tenant: str) -> GuardPolicy:
        """Return what a tenant wants."""
        return self.tenants.get(tenant, self.default)
