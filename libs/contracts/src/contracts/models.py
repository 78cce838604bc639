"""The models that a tenant may ask ai-broker for."""

from contracts.ids import TenantId
from contracts.message import Message


class ListModels(Message):
    """Ask for the catalogue."""

    tenant: TenantId
    """Whose view of it."""


class ModelInfo(Message):
    """One name that a completion may ask for."""

    id: str
    """An alias, or ``vendor/model``."""
    vendor: str
    """Who runs it."""
    model: str
    """The vendor's name for it."""
    is_alias: bool = False
    """Whether ``id`` is an alias."""


class ModelPage(Message):
    """The catalogue."""

    models: tuple[ModelInfo, ...]
    """By id."""
