"""Documents and lists that other services own: ask them, and say who was asked."""

from typing import TypeVar

from contracts import subjects
from contracts.deadletters import (
    DeadLetterPage,
    ListDeadLetters,
    ReplayDeadLetter,
)
from contracts.delivery import Nothing
from contracts.employees import (
    ApplyEmployee,
    Employee,
    EmployeePage,
    EmployeeVersion,
    GetEmployee,
    ListEmployees,
)
from contracts.events import (
    ApplyTrigger,
    ListTriggers,
    Trigger,
    TriggerPage,
    TriggerVersion,
)
from contracts.ledger import LedgerPage, ListLedger
from contracts.message import Message
from contracts.models import ListModels, ModelPage
from contracts.problems import Code
from contracts.subjects import Address, Service
from gateway.ports import Deps
from messaging.refusals import refuse

M = TypeVar("M", bound=Message)


async def apply_employee(
    tenant: str, employee: Employee, deps: Deps, *, dry_run: bool
) -> EmployeeVersion:
    """Create a version of an employee."""
    request = ApplyEmployee(tenant=tenant, employee=employee, dry_run=dry_run)
    address = subjects.EMPLOYEE_APPLY.to(tenant)
    return await _ask(address, request, EmployeeVersion, deps)


async def get_employee(request: GetEmployee, deps: Deps) -> EmployeeVersion:
    """Return an employee's version."""
    address = subjects.EMPLOYEE_GET.to(request.tenant)
    return await _ask(address, request, EmployeeVersion, deps)


async def list_employees(request: ListEmployees, deps: Deps) -> EmployeePage:
    """Return a page of employees."""
    address = subjects.EMPLOYEE_LIST.to(request.tenant)
    return await _ask(address, request, EmployeePage, deps)


async def apply_trigger(
    tenant: str, trigger: Trigger, deps: Deps, *, dry_run: bool
) -> TriggerVersion:
    """Create or replace a trigger."""
    request = ApplyTrigger(tenant=tenant, trigger=trigger, dry_run=dry_run)
    address = subjects.TRIGGER_APPLY.to(tenant)
    return await _ask(address, request, TriggerVersion, deps)


async def list_triggers(tenant: str, deps: Deps) -> TriggerPage:
    """Return a tenant's triggers."""
    address = subjects.TRIGGER_LIST.to(tenant)
    return await _ask(address, ListTriggers(tenant=tenant), TriggerPage, deps)


async def list_models(tenant: str, deps: Deps) -> ModelPage:
    """Return the models that a tenant may ask for."""
    address = subjects.MODELS.to(tenant)
    return await _ask(address, ListModels(tenant=tenant), ModelPage, deps)


async def list_ledger(request: ListLedger, deps: Deps) -> LedgerPage:
    """Return a page of ledger lines."""
    address = subjects.LEDGER.to(request.tenant)
    return await _ask(address, request, LedgerPage, deps)


async def list_dead_letters(
    service: Service, request: ListDeadLetters, deps: Deps
) -> DeadLetterPage:
    """Return a page of one service's dead letters."""
    address = subjects.dead_letters(service).to(request.tenant)
    return await _ask(address, request, DeadLetterPage, deps)


async def replay_dead_letter(
    service: Service, request: ReplayDeadLetter, deps: Deps
) -> None:
    """
    Process a dead letter again; returns once that worked.

    Raises:
        messaging.refusals.Refused: ``forbidden``: a tenant may repair what its own
            systems sent, but not what the platform's services tell each other, usage
            and its price among it.
    """
    may_repair = request.tenant is None or service is Service.ORCHESTRATOR
    if request.body is not None and not may_repair:
        detail = f"repairing a message of {service} needs an admin key"
        raise refuse(Code.FORBIDDEN, detail)
    address = subjects.replay(service).to(request.tenant)
    await _ask(address, request, Nothing, deps)


async def _ask(address: Address, request: Message, reply: type[M], deps: Deps) -> M:
    return await deps.peers.request(
        address, request, reply, timeout_s=deps.peer_timeout_s
    )
