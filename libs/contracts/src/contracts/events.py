"""
Events that other systems publish, and the triggers that turn them into tasks.

CloudEvents 1.0 in binary mode (``ce-`` headers) or structured mode (one JSON
object), or plain JSON, which is wrapped. The event's type is the subject after
``events.<tenant>.`` unless the event names its own.
"""

from typing import Literal

from pydantic import Field

from contracts.ids import EmployeeName, TenantId, TriggerName
from contracts.message import Document, Instant, Json, Message


class Event(Message):
    """A foreign event in canonical form."""

    tenant: TenantId
    """Whose, from the subject."""
    subject: str
    """The NATS subject it came by."""
    id: str = Field(min_length=1, max_length=256)
    """``ce-id``; without one, ``<stream's creation>-<sequence>``."""
    source: str = Field(min_length=1, max_length=512)
    """``ce-source``; without one, the subject."""
    type: str = Field(min_length=1, max_length=256)
    """``ce-type``; without one, the subject's end."""
    time: Instant | None = None
    """``ce-time``."""
    data_content_type: str = "application/json"
    """``datacontenttype``."""
    data: Json = None
    """The payload."""
    extensions: dict[str, str] = Field(default_factory=dict)
    """Other CloudEvents attributes."""


class TriggerTask(Document):
    """The task that a trigger starts."""

    employee: EmployeeName
    """Who works on it."""
    goal: str = Field(min_length=1, max_length=8192)
    """Words with ``{{ data.path }}`` places filled from the event."""
    input: str | None = Field(default=None, max_length=256)
    """Where in the event the input is: ``data`` or ``data.invoice``."""
    files: dict[str, str] = Field(default_factory=dict, max_length=32)
    """File name (places allowed) → where in the event its text is."""


class Trigger(Document):
    """The document that a builder writes: which events start which task."""

    kind: Literal["trigger"] = "trigger"
    """Always ``trigger``."""
    name: TriggerName
    """Its name."""
    subject: str = Field(pattern=r"^[A-Za-z0-9_*>-]+(\.[A-Za-z0-9_*>-]+){0,5}$")
    """After ``events.<tenant>.``, NATS wildcards allowed: ``invoice.*``."""
    where: dict[str, Json] = Field(default_factory=dict, max_length=32)
    """Path in the event → the value that it must equal."""
    task: TriggerTask
    """What to start."""


class ApplyTrigger(Message):
    """Create or replace a trigger."""

    tenant: TenantId
    """Whose."""
    trigger: Trigger
    """The document."""
    dry_run: bool = False
    """Only check it."""


class TriggerVersion(Message):
    """A stored trigger."""

    tenant: TenantId
    """Whose."""
    version: int = Field(ge=1)
    """Rises by one with each change."""
    digest: str
    """SHA-256 of the canonical document, in hex."""
    trigger: Trigger
    """The document."""
    created_at: Instant
    """When it was applied."""


class ListTriggers(Message):
    """Ask for a tenant's triggers."""

    tenant: TenantId
    """Whose."""


class TriggerPage(Message):
    """A tenant's triggers, by name."""

    triggers: tuple[TriggerVersion, ...]
    """The newest version of each."""
