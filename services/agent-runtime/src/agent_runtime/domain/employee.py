"""Employees as documents: checked, digested, versioned."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from agent_runtime.domain.schema import schema_errors
from agent_runtime.domain.tools import CATALOGUE
from contracts.employees import Employee, EmployeeVersion
from contracts.problems import FieldError


@dataclass(frozen=True)
class Applied:
    """What applying a document comes to."""

    version: EmployeeVersion
    is_new: bool
    """Whether it has to be stored."""


def errors_in(employee: Employee) -> tuple[FieldError, ...]:
    """Return what is wrong with a document beyond its shape, by JSON pointer."""
    return tuple(_errors(employee))


def apply(
    tenant: str, employee: Employee, newest: EmployeeVersion | None, now: datetime
) -> Applied:
    """Return the version that the document is, or would become."""
    digest = digest_of(employee)
    if newest is not None and newest.digest == digest:
        return Applied(newest, is_new=False)
    version = EmployeeVersion(
        tenant=tenant,
        version=1 if newest is None else newest.version + 1,
        digest=digest,
        employee=employee,
        created_at=now,
    )
    return Applied(version, is_new=True)


def digest_of(employee: Employee) -> str:
    """Return the SHA-256 of the canonical document, in hex."""
    # Defaults are spelled out, so that leaving one out changes nothing.
    canonical = json.dumps(
        employee.model_dump(mode="json"),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _errors(employee: Employee) -> Iterator[FieldError]:
    for index, name in enumerate(employee.tools):
        pointer = f"/tools/{index}"
        if name not in CATALOGUE:
            known = ", ".join(sorted(CATALOGUE))
            yield FieldError(
                pointer=pointer, detail=f"there is no tool {name!r}; there are: {known}"
            )
        elif name in employee.tools[:index]:
            yield FieldError(pointer=pointer, detail=f"{name!r} is listed twice")
    if employee.output_schema is not None:
        yield from schema_errors(employee.output_schema, "/output_schema")
