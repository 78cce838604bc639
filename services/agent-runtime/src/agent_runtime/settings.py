"""agent-runtime's settings, read once from ``AGENT_RUNTIME_…``."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from messaging.settings import ServiceSettings

HERE = Path(__file__).parents[2]


class Settings(ServiceSettings):
    """What agent-runtime can be told."""

    model_config = SettingsConfigDict(env_prefix="AGENT_RUNTIME_", frozen=True)

    migrations: Path = HERE / "migrations"
    """Where the schema's versions are."""
    steps_max: int = Field(default=64, ge=1, le=10_000)
    """Steps at work in this process; more wait in the store."""
    lease_s: float = Field(default=10.0, gt=0, le=300)
    """A step whose lease is not renewed for so long is anyone's."""
    heartbeat_s: float = Field(default=2.0, gt=0, le=60)
    """Between renewals; well below ``lease_s``."""
    sweep_s: float = Field(default=1.0, gt=0, le=60)
    """Between looks for steps that nobody works on."""
    call_s: float = Field(default=300.0, gt=0, le=3600)
    """One model call, before it is asked again under the same id."""
    cancel_s: float = Field(default=5.0, gt=0, le=60)
    """For a cancelled model call to say what it cost."""
    keep_days: float = Field(default=30, ge=1, le=3_650)
    """How long a step and its transcript are kept after its end."""

    @model_validator(mode="after")
    def _check_heartbeat(self) -> Self:
        if self.heartbeat_s * 2 > self.lease_s:
            message = "heartbeat_s must be at most half of lease_s"
            raise ValueError(message)
        return self
