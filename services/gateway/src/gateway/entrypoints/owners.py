"""Employees, triggers, ledger and dead letters over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response, status

from contracts.deadletters import (
    DeadLetterPage,
    DeadLetterState,
    ListDeadLetters,
    ReplayDeadLetter,
)
from contracts.employees import (
    Employee,
    EmployeePage,
    EmployeeVersion,
    GetEmployee,
    ListEmployees,
)
from contracts.events import Trigger, TriggerPage, TriggerVersion
from contracts.ids import EmployeeName, TaskId, Token
from contracts.ledger import LedgerPage, ListLedger
from contracts.message import Document
from contracts.subjects import Service
from gateway.entrypoints.documents import body_of, document_of
from gateway.entrypoints.identity import Caller, DepsOf, TenantOf
from gateway.handlers import owners

Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=300)]
DryRun = Annotated[bool, Query(description="Only check the document")]
EmployeeBody = Annotated[Employee, Depends(document_of(Employee))]
TriggerBody = Annotated[Trigger, Depends(document_of(Trigger))]

routes = APIRouter(prefix="/v1")


class ReplayRequest(Document):
    """The optional body of a replay."""

    body: bytes | None = None
    """Replaces the message that came, base64 in JSON."""


@routes.post("/employees", tags=["employees"], openapi_extra=body_of(Employee))
async def apply_employee(
    employee: EmployeeBody, tenant: TenantOf, deps: DepsOf, *, dry_run: DryRun = False
) -> EmployeeVersion:
    """Create a version of an employee; the same document changes nothing."""
    return await owners.apply_employee(tenant, employee, deps, dry_run=dry_run)


@routes.get("/employees", tags=["employees"])
async def list_employees(
    tenant: TenantOf, deps: DepsOf, limit: Limit = 100, cursor: Cursor = None
) -> EmployeePage:
    """List employees by name, their newest versions."""
    request = ListEmployees(tenant=tenant, limit=limit, cursor=cursor)
    return await owners.list_employees(request, deps)


@routes.get("/employees/{name}", tags=["employees"])
async def get_employee(
    name: EmployeeName,
    tenant: TenantOf,
    deps: DepsOf,
    version: Annotated[int | None, Query(ge=1)] = None,
) -> EmployeeVersion:
    """Return an employee; the newest version unless one is named."""
    request = GetEmployee(tenant=tenant, name=name, version=version)
    return await owners.get_employee(request, deps)


@routes.post("/triggers", tags=["triggers"], openapi_extra=body_of(Trigger))
async def apply_trigger(
    trigger: TriggerBody, tenant: TenantOf, deps: DepsOf, *, dry_run: DryRun = False
) -> TriggerVersion:
    """Create or replace a trigger: which events start which task."""
    return await owners.apply_trigger(tenant, trigger, deps, dry_run=dry_run)


@routes.get("/triggers", tags=["triggers"])
async def list_triggers(tenant: TenantOf, deps: DepsOf) -> TriggerPage:
    """List triggers by name."""
    return await owners.list_triggers(tenant, deps)


@routes.get("/ledger", tags=["money"])
async def list_ledger(
    tenant: TenantOf,
    deps: DepsOf,
    task_id: TaskId | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> LedgerPage:
    """List ledger lines in force: one for every vendor attempt."""
    request = ListLedger(tenant=tenant, task_id=task_id, limit=limit, cursor=cursor)
    return await owners.list_ledger(request, deps)


@routes.get("/deadletters/{service}", tags=["deadletters"])
async def list_dead_letters(
    service: Service,
    principal: Caller,
    deps: DepsOf,
    state: DeadLetterState | None = DeadLetterState.OPEN,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> DeadLetterPage:
    """List what a service could not process; a tenant sees only its own."""
    request = ListDeadLetters(
        tenant=principal.tenant, state=state, limit=limit, cursor=cursor
    )
    return await owners.list_dead_letters(service, request, deps)


@routes.post(
    "/deadletters/{service}/{letter_id}/replay",
    status_code=status.HTTP_204_NO_CONTENT,
    tags=["deadletters"],
)
async def replay_dead_letter(
    service: Service,
    letter_id: Token,
    principal: Caller,
    deps: DepsOf,
    request: ReplayRequest | None = None,
) -> Response:
    """Process a dead letter again, perhaps with a repaired body."""
    body = request.body if request is not None else None
    replay = ReplayDeadLetter(tenant=principal.tenant, id=letter_id, body=body)
    await owners.replay_dead_letter(service, replay, deps)
    return Response(status_code=status.HTTP_204_NO_CONTENT)
