"""The gateway's settings, read once from ``GATEWAY_…``."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from messaging.settings import ServiceSettings

HERE = Path(__file__).parents[2]


class Settings(ServiceSettings):
    """What the gateway can be told."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True)

    migrations: Path = HERE / "migrations"
    """Where the schema's versions are."""
    api_host: str = "127.0.0.1"
    """Where the API listens."""
    api_port: int = Field(default=8000, ge=0, le=65_535)
    """Its port."""
    admin_key: SecretStr | None = None
    """An admin key that always works: ``de_<id>_<secret>``."""
    body_bytes_max: int = Field(default=262_144, ge=1024)
    """Larger bodies are refused with 413."""
    ai_body_bytes_max: int = Field(default=6 << 20, ge=1024, le=7 << 20)
    """The same on the compatible endpoints, whose bodies carry images."""
    completions_max: int = Field(default=1000, ge=1)
    """Answers under way on the compatible endpoints; above, overloaded."""
    completion_s: float = Field(default=600, gt=0, le=3600)
    """The longest that one of them may take."""
    tools_max: int = Field(default=128, ge=1, le=2000)
    """Tools that one question may bring."""
    connections_max: int = Field(default=4096, ge=1)
    """Connections at once; above, 503."""
    feeds_max: int = Field(default=1000, ge=1)
    """Concurrent feeds; above, 503."""
    peer_timeout_s: float = Field(default=5.0, gt=0, le=60)
    """How long another service may take to answer."""
