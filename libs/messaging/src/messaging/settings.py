"""The settings that every service has, by the same names."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.subjects import Track
from determinism import SystemIds


def _instance() -> str:
    return SystemIds().new("instance")


class ServiceSettings(BaseSettings):
    """
    Read once from the environment; a subclass sets ``env_prefix``.

    A subclass writes ``model_config = SettingsConfigDict(env_prefix="AI_BROKER_")``;
    the rest of this configuration is inherited.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    database_url: str
    """``sqlite:///<path>`` or ``postgresql://…``; this service's own store."""
    nats_url: str = "nats://127.0.0.1:4222"
    """The server, without credentials."""
    nats_user: str | None = None
    """This service's NATS user."""
    nats_password: SecretStr | None = None
    """Its password."""
    http_host: str = "127.0.0.1"
    """Where the face listens: health, readiness and metrics."""
    http_port: int = Field(default=0, ge=0, le=65535)
    """0 takes a free port."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lower levels are not logged."""
    app_env: Literal["development", "test", "staging", "production"] = "development"
    """Where this process runs."""
    trace_file: Path | None = None
    """Development: spans are appended here as JSON lines."""
    otlp_endpoint: str | None = None
    """An OpenTelemetry collector's HTTP endpoint."""
    instance: str = Field(default_factory=_instance, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """This process's id, one subject token; drawn when not given."""
    track: Track = Track.STABLE
    """The track that this process serves."""
