"""What agent-runtime listens to, one function per subject."""

from agent_runtime.handlers import employees, steps
from agent_runtime.ports import Deps
from contracts import subjects
from contracts.employees import (
    ApplyEmployee,
    EmployeePage,
    EmployeeVersion,
    GetEmployee,
    ListEmployees,
)
from contracts.problems import Code
from contracts.steps import CancelStep, StepRequested
from messaging.bus import Delivery
from messaging.refusals import refuse
from messaging.subscriptions import Answer, Subscription, Work


def subscriptions(deps: Deps) -> tuple[Subscription, ...]:
    """Bind every subject to its handler."""

    async def on_step_requested(message: StepRequested, delivery: Delivery) -> None:
        await steps.receive_step(message, delivery, deps)

    async def on_cancel_step(message: CancelStep, delivery: Delivery) -> None:
        await steps.cancel_step(message, delivery, deps)

    async def on_employee_apply(
        request: ApplyEmployee, delivery: Delivery
    ) -> EmployeeVersion:
        _require_own(request.tenant, delivery)
        return await employees.apply_employee(request, deps)

    async def on_employee_get(
        request: GetEmployee, delivery: Delivery
    ) -> EmployeeVersion:
        _require_own(request.tenant, delivery)
        return await employees.get_employee(request, deps)

    async def on_employee_list(
        request: ListEmployees, delivery: Delivery
    ) -> EmployeePage:
        _require_own(request.tenant, delivery)
        return await employees.list_employees(request, deps)

    return (
        Work(subjects.STEP, StepRequested, on_step_requested),
        Work(subjects.CANCEL_STEP, CancelStep, on_cancel_step),
        Answer(subjects.EMPLOYEE_APPLY, ApplyEmployee, on_employee_apply),
        Answer(subjects.EMPLOYEE_GET, GetEmployee, on_employee_get),
        Answer(subjects.EMPLOYEE_LIST, ListEmployees, on_employee_list),
    )


def _require_own(tenant: str, delivery: Delivery) -> None:
    """Refuse a body that speaks for another tenant than its subject."""
    if tenant != delivery.tenant:
        detail = f"The subject is {delivery.tenant!r}'s, the request {tenant!r}'s."
        raise refuse(Code.FORBIDDEN, detail)
