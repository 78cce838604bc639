"""From bytes to messages and back: decoding, tenants, and the payload guard."""

from collections.abc import Mapping
from typing import TypeVar

from contracts import headers as names
from contracts.message import Message
from contracts.problems import Code
from contracts.subjects import PLATFORM, Verb
from faults import PermanentFault
from messaging.bus import Delivery
from messaging.limits import BusLimits
from messaging.refusals import refuse

M = TypeVar("M", bound=Message)


def decode(message: type[M], body: bytes) -> M:
    """
    Read a body.

    Raises:
        ValidationError: It is not one; also for bytes that are no UTF-8.
    """
    return message.model_validate_json(body)


def tenant_of(subject: str) -> str | None:
    """Return the tenant token of an addressed subject; None for the platform."""
    tenant = subject.rpartition(".")[2]
    return None if tenant == PLATFORM else tenant


def require_tenant(message: Message, delivery: Delivery, verb: Verb) -> None:
    """
    Refuse a body that speaks for another tenant than its subject.

    A platform subject may name any tenant: only services can publish there.

    Raises:
        Refused: ``forbidden``; a work message becomes a dead letter by it.
    """
    if delivery.tenant is None or "tenant" not in type(message).model_fields:
        return
    named = getattr(message, "tenant", None)
    if named != delivery.tenant:
        detail = (
            f"{verb}: the subject is {delivery.tenant}'s and the body is "
            f"{named or 'nobody'}'s; send it on its own tenant's subject"
        )
        raise refuse(Code.FORBIDDEN, detail)


def delivery_of(
    subject: str,
    headers: Mapping[str, str] | None,
    *,
    otherwise: str,
    deliveries: int = 1,
) -> Delivery:
    """
    Describe a delivered message.

    Args:
        subject: The concrete subject.
        headers: As they came; None when there were none.
        otherwise: The message id of a message that brings none.
        deliveries: How often it was delivered, this time included.
    """
    known = dict(headers or {})
    return Delivery(
        subject=subject,
        message_id=known.get(names.MESSAGE_ID) or otherwise,
        tenant=tenant_of(subject),
        headers=known,
        deliveries=deliveries,
    )


def require_payload(
    subject: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    payload_bytes_max: int,
    limits: BusLimits,
) -> None:
    """
    Refuse what the server would answer by closing the connection.

    nats-py compares the body alone with max_payload; the server counts headers
    too, and a connection closed for that never comes back.

    Raises:
        PermanentFault: ``too-large``, with the limit.
    """
    body_max = payload_bytes_max - limits.headers_reserve_bytes
    if len(body) > body_max:
        detail = (
            f"publish to {subject}: {len(body)} bytes are above the limit of "
            f"{body_max}; send a reference instead"
        )
        raise PermanentFault(detail, code=Code.TOO_LARGE)
    size = sum(len(key) + len(value.encode()) + 4 for key, value in headers.items())
    if size > limits.headers_bytes_max:
        detail = (
            f"publish to {subject}: headers of about {size} bytes are above the "
            f"limit of {limits.headers_bytes_max}"
        )
        raise PermanentFault(detail, code=Code.TOO_LARGE)
