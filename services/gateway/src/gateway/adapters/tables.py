"""The gateway's tables, and how their rows become domain values."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, Row
from sqlmodel import Field, SQLModel

from contracts.tasks import TaskView
from contracts.tenants import Tenant
from gateway.domain.admission import Submission
from gateway.domain.keys import ApiKey, Role
from persistence.tables import declare_shared
from persistence.types import Instant, Json


class GatewayTable(SQLModel):
    """The base of this service's tables."""

    metadata = MetaData()


SHARED = declare_shared(GatewayTable.metadata)


class TenantRow(GatewayTable, table=True):
    """A company on the platform."""

    __tablename__ = "tenant"  # pyright: ignore[reportAssignmentType] -- SQLModel

    tenant: str = Field(primary_key=True)
    nats_password_hash: str
    created_at: datetime = Field(sa_column=Column(Instant, nullable=False))


class ApiKeyRow(GatewayTable, table=True):
    """A key; the secret itself is nowhere."""

    __tablename__ = "api_key"  # pyright: ignore[reportAssignmentType] -- SQLModel

    key_id: str = Field(primary_key=True)
    role: str
    tenant: str | None = Field(default=None, index=True)
    name: str
    secret_hash: str
    created_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    expires_at: datetime | None = Field(
        default=None, sa_column=Column(Instant, nullable=True)
    )
    revoked_at: datetime | None = Field(
        default=None, sa_column=Column(Instant, nullable=True)
    )
    cache_ttl_s: int | None = Field(
        default=None, sa_column=Column(BigInteger, nullable=True)
    )


class SubmissionRow(GatewayTable, table=True):
    """A task that was accepted here; its owner is the orchestrator."""

    __tablename__ = "submission"  # pyright: ignore[reportAssignmentType] -- SQLModel

    task_id: str = Field(primary_key=True)
    tenant: str
    digest: str
    view: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    created_at: datetime = Field(sa_column=Column(Instant, nullable=False, index=True))


def api_key(row: Row[Any]) -> ApiKey:
    """Return the key that a row holds."""
    return ApiKey(
        key_id=row.key_id,
        role=Role(row.role),
        tenant=row.tenant,
        name=row.name,
        secret_hash=row.secret_hash,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        cache_ttl_s=row.cache_ttl_s,
    )


def tenant(row: Row[Any]) -> Tenant:
    """Return the tenant that a row holds."""
    return Tenant(
        tenant=row.tenant,
        nats_password_hash=row.nats_password_hash,
        created_at=row.created_at,
    )


def submission(row: Row[Any]) -> Submission:
    """Return the submission that a row holds."""
    view = TaskView.model_validate(row.view)
    return Submission(row.task_id, row.tenant, row.digest, view)
