"""
Identifiers, each kind its own type.

Every id is safe as one NATS subject token: no dot, space or wildcard.
"""

import hashlib
from typing import Annotated

from pydantic import StringConstraints

TOKEN_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"  # noqa: S105 -- a subject token
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$"

Token = Annotated[str, StringConstraints(pattern=TOKEN_PATTERN)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

TenantId = Name
"""Lower-case letters, digits and dashes, at most 48: ``acme``."""
EmployeeName = Name
TriggerName = Name
TaskId = Token
"""``task_<32 hex digits>``."""
StepId = Token
"""``step_<32 hex digits>``, derived from the task and the step's position."""
CompletionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:-]{1,128}$")]
"""An agent's is ``<step id>:<turn>``; repeating it asks for the same answer."""
AttemptId = Token
"""``attempt_<32 hex digits>``: one call of one vendor."""
InstanceId = Token
"""One running process of a service."""
MessageId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:.-]{1,160}$")]
"""The inbox's key; a re-send keeps it."""


def derived_id(prefix: str, *key: str) -> str:
    """
    Return the id that belongs to a business key; the same key, the same id.

    The parts are joined with a separator that no part may contain, so that
    ("ab", "c") and ("a", "bc") never meet.
    """
    digest = hashlib.sha256("\x1f".join(key).encode()).hexdigest()
    return f"{prefix}_{digest[:32]}"
