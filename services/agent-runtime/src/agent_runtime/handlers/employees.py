"""Employees: apply a document, read one, list them."""

from agent_runtime.domain.employee import apply, errors_in
from agent_runtime.ports import Deps, Work
from contracts.employees import (
    ApplyEmployee,
    EmployeePage,
    EmployeeVersion,
    GetEmployee,
    ListEmployees,
)
from contracts.problems import Code, ErrorEnvelope, problem
from faults import TransientFault
from messaging.refusals import Refused, refuse


async def apply_employee(request: ApplyEmployee, deps: Deps) -> EmployeeVersion:
    """
    Create a version of an employee; the document in force again changes nothing.

    Raises:
        Refused: ``invalid``, with a pointer to each field that is wrong.
    """
    errors = errors_in(request.employee)
    if errors:
        detail = f"The employee {request.employee.name!r} has fields to correct."
        raise Refused(
            ErrorEnvelope(problem=problem(Code.INVALID, detail, errors=errors))
        )
    now = deps.clock.now()

    def transaction(work: Work) -> EmployeeVersion:
        newest = work.employees.newest(request.tenant, request.employee.name)
        applied = apply(request.tenant, request.employee, newest, now)
        is_due = applied.is_new and not request.dry_run
        if is_due and not work.employees.add(applied.version):
            name = request.employee.name
            detail = f"{name!r} was just changed by someone else: apply it again"
            raise TransientFault(detail, code=Code.CONFLICT)
        return applied.version

    return await deps.store.run(transaction)


async def get_employee(request: GetEmployee, deps: Deps) -> EmployeeVersion:
    """
    Return one employee.

    Raises:
        Refused: ``not-found``.
    """

    def query(work: Work) -> EmployeeVersion | None:
        if request.version is None:
            return work.employees.newest(request.tenant, request.name)
        return work.employees.get(request.tenant, request.name, request.version)

    found = await deps.store.read(query)
    if found is None:
        version = "" if request.version is None else f" version {request.version}"
        detail = f"There is no employee {request.name!r}{version}: list them to see."
        raise refuse(Code.NOT_FOUND, detail)
    return found


async def list_employees(request: ListEmployees, deps: Deps) -> EmployeePage:
    """Return a page of employees by name, the newest version of each."""
    found = await deps.store.read(
        lambda work: work.employees.page(
            request.tenant, request.limit + 1, request.cursor
        )
    )
    page = tuple(found[: request.limit])
    more = len(found) > request.limit
    return EmployeePage(
        employees=page, next_cursor=page[-1].employee.name if more else None
    )
