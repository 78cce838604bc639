"""Digital employees are documents: versioned, hashed, pinned by each step."""

from typing import Literal

from pydantic import Field

from contracts.completions import Sampling
from contracts.ids import EmployeeName, TenantId
from contracts.message import Document, Instant, JsonObject, Message


class ModelPolicy(Document):
    """Which model answers, and how."""

    model: str = "smart"
    """An alias or ``vendor/model``."""
    output_tokens_max: int = Field(default=4096, ge=1, le=200_000)
    """A limit on each answer."""
    sampling: Sampling = Sampling()
    """How tokens are chosen."""


class Limits(Document):
    """What one step may use up before it fails."""

    turns_max: int = Field(default=16, ge=1, le=200)
    """Model answers."""
    tokens_max: int = Field(default=200_000, ge=1)
    """Tokens over all turns."""
    wall_time_s: int = Field(default=900, ge=1, le=86_400)
    """Seconds from claim to end."""


class Employee(Document):
    """The document that a builder writes, in YAML or JSON."""

    kind: Literal["employee"] = "employee"
    """Always ``employee``."""
    name: EmployeeName
    """What tasks call it by."""
    role: str = Field(min_length=1, max_length=200)
    """Its position, one line."""
    instructions: str = Field(min_length=1, max_length=32_768)
    """How it shall work."""
    model: ModelPolicy = ModelPolicy()
    """Which model answers."""
    tools: tuple[str, ...] = Field(default=(), max_length=64)
    """Names of tools that it may use: ``read_file``, ``calculator``."""
    output_schema: JsonObject | None = None
    """JSON Schema that its answer is held to; without one it answers in text."""
    limits: Limits = Limits()
    """What a step may use up."""
    manager: str | None = Field(default=None, max_length=200)
    """Who answers for it."""


class ApplyEmployee(Message):
    """Create a version of an employee; the same document changes nothing."""

    tenant: TenantId
    """Whose."""
    employee: Employee
    """The document."""
    dry_run: bool = False
    """Only check it."""


class EmployeeVersion(Message):
    """A stored version."""

    tenant: TenantId
    """Whose."""
    version: int = Field(ge=1)
    """Rises by one with each change."""
    digest: str
    """SHA-256 of the canonical document, in hex."""
    employee: Employee
    """The document."""
    created_at: Instant
    """When it was applied."""


class GetEmployee(Message):
    """Ask for one employee."""

    tenant: TenantId
    """Whose."""
    name: EmployeeName
    """Which."""
    version: int | None = None
    """Which version; the newest when absent."""


class ListEmployees(Message):
    """Ask for a tenant's employees, their newest versions."""

    tenant: TenantId
    """Whose."""
    limit: int = Field(default=100, ge=1, le=500)
    """Page size."""
    cursor: str | None = None
    """The last name of the page before."""


class EmployeePage(Message):
    """A page of employees, by name."""

    employees: tuple[EmployeeVersion, ...]
    """The newest version of each."""
    next_cursor: str | None = None
    """Ask again with this for more."""
