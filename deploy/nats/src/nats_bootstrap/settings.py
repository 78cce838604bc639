"""The bootstrap's settings, read once from the environment."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from messaging.settings import ServiceSettings


class Settings(ServiceSettings):
    """Environment variables ``BOOTSTRAP_…``."""

    model_config = SettingsConfigDict(env_prefix="BOOTSTRAP_")

    database_url: str = ""
    """Unused: the bootstrap has no store."""
    sys_password: SecretStr | None = None
    """The system user's password."""
    include_path: Path
    """The users' file that the server's configuration includes."""
    interval_s: float = Field(default=3.0, gt=0, le=60)
    """Seconds between passes."""
