"""Whether a task is taken: pure, so that the same request always gives the same id."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import orjson
from pydantic import Field, field_validator, model_validator

from contracts import subjects
from contracts.ids import EmployeeName, derived_id
from contracts.message import Document, Json, JsonObject
from contracts.owed import Owed
from contracts.problems import Code, Problem, problem
from contracts.tasks import SubmitTask, TaskFile, TaskStatus, TaskView
from gateway.domain.extent import excess_of
from gateway.domain.keys import Principal


class TaskRequest(Document):
    """The body of ``POST /v1/tasks``."""

    employee: EmployeeName
    """Who shall do it."""
    goal: str = Field(min_length=1, max_length=32_768)
    """What is wanted, in words."""
    input: Json = None
    """Data to work on."""
    files: tuple[TaskFile, ...] = Field(default=(), max_length=32)
    """Text documents that the employee's tools may read."""

    @field_validator("input")
    @classmethod
    def _input_travels_unchanged(cls, value: Json) -> Json:
        if (excess := excess_of(value)) is not None:
            raise ValueError(excess)
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> "TaskRequest":
        names = [file.name for file in self.files]
        if len(set(names)) != len(names):
            message = "two files have the same name: name each once"
            raise ValueError(message)
        return self


@dataclass(frozen=True, slots=True)
class Submission:
    """An accepted task, as the gateway keeps it."""

    task_id: str
    tenant: str
    digest: str
    view: TaskView


@dataclass(frozen=True, slots=True)
class Admitted:
    """The task is taken: commit both, then say 202."""

    submission: Submission
    owed: Owed


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same request came before under this key."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The key was used for another request."""

    problem: Problem


Admission = Admitted | Repeated | Refused


def task_id_for(tenant: str, idempotency_key: str) -> str:
    """Return the task id that belongs to a tenant's idempotency key."""
    return derived_id("task", tenant, idempotency_key)


def admit(
    request: TaskRequest,
    principal: Principal,
    task_id: str,
    earlier: Submission | None,
    now: datetime,
) -> Admission:
    """Decide about a submission, given the one that has the same id, if any."""
    digest = request_digest(request)
    if earlier is not None:
        if earlier.digest == digest:
            return Repeated(earlier.task_id)
        detail = (
            "this Idempotency-Key was used for another request: use a new key, or "
            "repeat the first request unchanged"
        )
        return Refused(problem(Code.IDEMPOTENCY_MISMATCH, detail))
    tenant = principal.tenant or ""
    submit = SubmitTask(
        task_id=task_id,
        tenant=tenant,
        definition=plain_definition(request.employee, request.goal),
        employee=request.employee,
        goal=request.goal,
        input=request.input,
        files=request.files,
        api_key_id=principal.key_id,
        submitted_at=now,
    )
    view = TaskView(
        task_id=task_id,
        tenant=tenant,
        status=TaskStatus.SUBMITTED,
        employee=request.employee,
        goal=request.goal,
        created_at=now,
    )
    owed = Owed(
        address=subjects.SUBMIT.to(tenant),
        message=submit,
        message_id=f"submit:{task_id}",
        task_id=task_id,
    )
    return Admitted(Submission(task_id, tenant, digest, view), owed)


def request_digest(request: TaskRequest) -> str:
    """
    Return the SHA-256 of the request's canonical JSON, in hex.

    Defaults are left out: an option that a later version adds must not make its
    repeat of today's request another request.
    """
    content = request.model_dump(mode="json", exclude_defaults=True)
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def plain_definition(employee: str, goal: str) -> JsonObject:
    """Return the workflow of one ``call: employee`` that a plain task is."""
    return {
        "document": {
            "dsl": "1.0.0",
            "namespace": "default",
            "name": employee,
            "version": "1.0.0",
        },
        "do": [
            {"work": {"call": "employee", "with": {"employee": employee, "goal": goal}}}
        ],
    }
