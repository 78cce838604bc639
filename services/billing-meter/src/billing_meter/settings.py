"""billing-meter's settings, read once from ``BILLING_METER_…``."""

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from messaging.settings import ServiceSettings

HERE = Path(__file__).parents[2]


class Settings(ServiceSettings):
    """What billing-meter can be told."""

    model_config = SettingsConfigDict(env_prefix="BILLING_METER_", frozen=True)

    migrations: Path = HERE / "migrations"
    """Where the schema's versions are."""
    price_file: Path = HERE / "prices.yaml"
    """The price document to begin with."""
    price_folder: Path | None = None
    """Where approved price books are; the document holds while there is none."""
