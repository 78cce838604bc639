"""
Faults say whether to retry; refusals are values and never pass through here.

    Fault
    ├── TransientFault     the same call may work later: nak with delay, retry
    │   └── DeadlineExceeded   no answer within the time allowed
    └── PermanentFault     the same call never works: dead letter, then term

Anything else that is raised is a bug: it is retried with backoff up to a limit
and then dead-lettered, so that a bad deploy loses nothing.
"""

from typing import Final

BUG_CODE: Final = "internal-error"


class Fault(Exception):
    """What was attempted, on what, with which limit; ``code`` is for programs."""

    code: str = "fault"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class TransientFault(Fault):
    """
    The same call may succeed later.

    Args:
        detail: What was attempted, and what to do if it goes on failing.
        code: A lower-case word with dashes, stable for programs.
        retry_after_s: Seconds the other side asked us to wait, if it did.
    """

    code = "temporarily-unavailable"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(TransientFault):
    """No answer came within the time allowed; whether it took effect is unknown."""

    code = "deadline-exceeded"


class PermanentFault(Fault):
    """The same call can never succeed; a human or a changed message must act."""

    code = "invalid"
