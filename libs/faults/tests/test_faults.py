"""Faults say what happened, in words and as a code, and whether to retry."""

import pytest

from faults import DeadlineExceeded, Fault, PermanentFault, TransientFault


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (TransientFault, "temporarily-unavailable"),
        (DeadlineExceeded, "deadline-exceeded"),
        (PermanentFault, "invalid"),
    ],
)
def test_a_fault_has_a_code_of_its_kind(kind: type[Fault], code: str) -> None:
    """Programs read the code, people the detail."""
    fault = kind("ask billing-meter for prices: no answer")
    assert fault.code == code
    assert fault.detail == str(fault) == "ask billing-meter for prices: no answer"


def test_a_codes_exception_is_its_instances() -> None:
    """A code given to one fault does not become its class's."""
    assert TransientFault("x", code="overloaded").code == "overloaded"
    assert TransientFault("x").code == "temporarily-unavailable"


def test_retry_is_decided_by_kind() -> None:
    """A deadline may be retried; what is permanent may not."""
    assert issubclass(DeadlineExceeded, TransientFault)
    assert not issubclass(PermanentFault, TransientFault)
    assert TransientFault("x", retry_after_s=2.5).retry_after_s == 2.5
    assert DeadlineExceeded("x").retry_after_s is None
