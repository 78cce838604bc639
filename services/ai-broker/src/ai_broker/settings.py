"""ai-broker's settings, read once from ``AI_BROKER_…``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from messaging.settings import ServiceSettings

HERE: Final = Path(__file__).parents[2]


class Settings(ServiceSettings):
    """
    What ai-broker can be told.

    Vendors' keys and addresses keep the names that their own SDKs read
    (``OPENAI_API_KEY``), which the catalogue lists; so the environment is kept whole.
    """

    model_config = SettingsConfigDict(env_prefix="AI_BROKER_", frozen=True)

    migrations: Path = HERE / "migrations"
    """Where the schema's versions are."""
    catalogue_file: Path = HERE / "catalogue.yaml"
    """Vendors, models and aliases."""
    guard_file: Path | None = None
    """Which tenants' personal data is masked on its way to vendors; none without."""
    rate_file: Path | None = None
    """Rate limits, read again when it changes; none without."""
    redis_url: SecretStr | None = None
    """Where all replicas count rates together; each counts by itself without."""
    redis_cluster: bool = False
    """Whether that is a Redis Cluster."""
    sandbox_url: str | None = None
    """The sandbox vendor's address; without it there are only real vendors."""
    vendor_environment: Mapping[str, str] = Field(
        default_factory=lambda: dict(os.environ), repr=False
    )
    """Where vendors' keys and addresses are looked up."""
    kek: SecretStr | None = None
    """Key-encryption keys for tenants' own vendor keys, 64 hex digits each, apart by
    commas or spaces: the first one seals, all of them open."""
    kek_file: Path | None = None
    """A file with key-encryption keys, read at start; instead of ``kek``."""
    vendor_transport: Literal["direct", "sdk"] = "direct"
    """What carries calls: aiohttp, or the vendors' official SDKs."""
    vendor_connect_s: float = Field(default=10, gt=0, le=60)
    """How long a connection to a vendor may take."""
    vendor_idle_s: float = Field(default=120, gt=0, le=900)
    """How long a vendor may stay silent in the middle of an answer."""
    lease_s: float = Field(default=8, ge=1, le=300)
    """How long a dead replica's claim of a completion blocks the others."""
    keep_days: float = Field(default=30, ge=1, le=3_650)
    """How long an answer can be asked for again; then it is deleted."""
