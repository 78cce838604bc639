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
    keep_days: float = Field(default=90, ge=1, le=3650)
    """Days for which an ended run, its history and the ids of messages are kept."""
    prune_s: float = Field(default=600, gt=0, le=86_400)
    """Seconds between looks for what is kept no longer."""
    deadline_poll_s: float = Field(default=1, gt=0, le=60)
    """Seconds between looks for passed deadlines."""
