"""Employees over their subjects: applied, read, listed, and kept apart."""

import pytest
from agent_world import CLERK, World, checks_letter, play

from agent_runtime.entrypoints.subscribers import subscriptions
from agent_runtime.handlers.employees import (
    apply_employee,
    get_employee,
    list_employees,
)
from contracts.employees import ApplyEmployee, GetEmployee, ListEmployees
from contracts.problems import Code
from contracts.subjects import EMPLOYEE_GET
from messaging.bus import Delivery
from messaging.refusals import Refused
from messaging.subscriptions import Answer


def test_versions_rise_with_changes_only() -> None:
    """The same document is the same version; a dry run stores nothing."""

    async def test(world: World) -> None:
        deps = world.process("a").deps
        changed = CLERK.model_copy(update={"role": "head clerk"})
        first = await apply_employee(ApplyEmployee(tenant="acme", employee=CLERK), deps)
        again = await apply_employee(ApplyEmployee(tenant="acme", employee=CLERK), deps)
        tried = await apply_employee(
            ApplyEmployee(tenant="acme", employee=changed, dry_run=True), deps
        )
        second = await apply_employee(
            ApplyEmployee(tenant="acme", employee=changed), deps
        )
        assert first == again
        assert [each.version for each in (first, tried, second)] == [1, 2, 2]
        found = await get_employee(GetEmployee(tenant="acme", name="clerk"), deps)
        assert found == second
        old = GetEmployee(tenant="acme", name="clerk", version=1)
        assert await get_employee(old, deps) == first

    play(checks_letter, test)


def test_invalid_document_is_refused_with_pointers() -> None:
    """A dry run and a real one say the same."""

    async def test(world: World) -> None:
        deps = world.process("a").deps
        wrong = CLERK.model_copy(update={"tools": ("shell",)})
        with pytest.raises(Refused) as caught:
            await apply_employee(ApplyEmployee(tenant="acme", employee=wrong), deps)
        problem = caught.value.envelope.problem
        assert problem.code is Code.INVALID
        assert [each.pointer for each in problem.errors] == ["/tools/0"]

    play(checks_letter, test)


def test_pages_list_each_employee_once_per_tenant() -> None:
    """Names in order, newest versions, nobody else's."""

    async def test(world: World) -> None:
        deps = world.process("a").deps
        for tenant, names in (("acme", "cab"), ("other", "x")):
            for name in names:
                employee = CLERK.model_copy(update={"name": name})
                request = ApplyEmployee(tenant=tenant, employee=employee)
                await apply_employee(request, deps)
        page = await list_employees(ListEmployees(tenant="acme", limit=2), deps)
        rest = ListEmployees(tenant="acme", limit=2, cursor=page.next_cursor)
        last = await list_employees(rest, deps)
        listed = [*page.employees, *last.employees]
        assert [each.employee.name for each in listed] == ["a", "b", "c"]
        assert last.next_cursor is None

    play(checks_letter, test)


def test_another_tenant_s_employee_is_not_found() -> None:
    """Neither by asking as oneself nor by speaking for the other."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process)
        with pytest.raises(Refused, match="no employee"):
            await get_employee(GetEmployee(tenant="other", name="clerk"), process.deps)
        (answer,) = [
            each
            for each in subscriptions(process.deps)
            if isinstance(each, Answer) and each.verb == EMPLOYEE_GET
        ]
        with pytest.raises(Refused) as caught:
            await answer.answer(
                GetEmployee(tenant="acme", name="clerk"), Delivery("svc", "", "other")
            )
        assert caught.value.envelope.problem.code is Code.FORBIDDEN

    play(checks_letter, test)
