"""The orchestrator's settings, read once from ``ORCHESTRATOR_…``."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from messaging.settings import ServiceSettings

HERE = Path(__file__).parents[2]


class Settings(ServiceSettings):
    """What the orchestrator can be told."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_")

    migrations: Path = HERE / "migrations"
    """Where the schema's versions are."""
    step_deadline_s: float = Field(default=3600, gt=0, le=604_800)
    """Seconds that each step may take; pinned by a run when it begins."""
    deadline_poll_s: float = Field(default=1, gt=0, le=60)
    """Seconds between looks for passed deadlines."""
