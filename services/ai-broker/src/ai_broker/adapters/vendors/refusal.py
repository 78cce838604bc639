"""
What a vendor cannot do is refused with the field's name, or left out and told.

Left out is only how a question is to be answered, and only when the caller allowed
it. What was said is never left out: an answer to half a question is a wrong answer.
"""

from collections.abc import Collection

from ai_broker.domain.quirks import Quirks
from contracts.completions import CompletionRequest
from contracts.message import JsonObject
from faults import PermanentFault


class Fit:
    """
    How a request fits one vendor, noted while its body is built.

    Args:
        vendor: Its name, for refusals.
        quirks: What it refuses, as data.
        request: Whether fields may be dropped.
    """

    def __init__(self, vendor: str, quirks: Quirks, request: CompletionRequest) -> None:
        self.quirks = quirks
        self._vendor = vendor
        self._lenient = request.drop_unsupported
        self._dropped: dict[str, None] = {}

    @property
    def dropped(self) -> tuple[str, ...]:
        """Return what was left out, each field once."""
        return tuple(self._dropped)

    def takes(self, field: str, hint: str = "leave it out") -> bool:
        """Tell whether a field goes out; PermanentFault when it neither can nor may."""
        if field not in self.quirks.refuses:
            return True
        self.leave_out(field, hint)
        return False

    def leave_out(self, field: str, hint: str) -> None:
        """Note a field that is not sent; PermanentFault when that is not allowed."""
        if not self._lenient:
            raise self.refusal(field, hint)
        self._dropped[field] = None

    def own_fields(self, extra: JsonObject, known: Collection[str]) -> JsonObject:
        """Return the extra fields that the vendor has a place for."""
        sent: JsonObject = {}
        for name, value in extra.items():
            if name in known or name in self.quirks.extras:
                sent[name] = value
            else:
                self.leave_out(f"extra.{name}", "leave it out")
        return sent

    def refusal(self, field: str, hint: str) -> PermanentFault:
        """Return the fault of a field that must not be left out."""
        return PermanentFault(f"{field}: {self._vendor} cannot do this; {hint}")
