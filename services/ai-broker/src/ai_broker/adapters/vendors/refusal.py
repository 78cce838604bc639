"""What a vendor cannot do is refused with the field's name, never dropped."""

from collections.abc import Collection

from contracts.message import JsonObject
from faults import PermanentFault


def unsupported(protocol: str, field: str, hint: str) -> PermanentFault:
    """Return the fault of a field that a protocol has no place for."""
    return PermanentFault(f"{field}: the {protocol} protocol cannot do this; {hint}")


def require_known(protocol: str, extra: JsonObject, known: Collection[str]) -> None:
    """
    Check that a protocol has a place for every extra field.

    Raises:
        PermanentFault: It has not.
    """
    for name in extra:
        if name not in known:
            raise unsupported(protocol, f"extra.{name}", "leave it out")
