"""
The subject grammar: ``<kind>.<service>.<track>.<verb>.<tenant>[.<id>]``.

Fixed tokens come first and ids last, so that permissions, stream filters and
metrics can name a template. Outbox rows keep an ``Address``, which has no
track; the router in ``messaging`` adds it when the message leaves.

    svc     request and reply, never captured by a stream
    work    what the named receiver must process (JetStream work queue)
    evt     facts for observers (JetStream, 24 h), no track
    live    token deltas, core NATS only, no track
    events  what other systems publish, one stream per tenant, no track
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from contracts.ids import TOKEN_PATTERN

TOKEN = re.compile(TOKEN_PATTERN)


class Service(StrEnum):
    """The services, by the name that their subjects carry."""

    GATEWAY = "gateway"
    ORCHESTRATOR = "orchestrator"
    AGENT_RUNTIME = "agent-runtime"
    AI_BROKER = "ai-broker"
    BILLING_METER = "billing-meter"
    BOOTSTRAP = "bootstrap"


class Kind(StrEnum):
    """Kinds that are addressed to a service."""

    SVC = "svc"
    WORK = "work"


class Track(StrEnum):
    """The version of a service that a message goes to."""

    STABLE = "stable"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class Verb:
    """A subject template: what a service does, before tenant and track."""

    kind: Kind
    service: Service
    name: str

    def to(self, tenant: str | None = None) -> "Address":
        """Return the address of one tenant's message; None for platform verbs."""
        return Address(self, tenant)

    def pattern(self, track: Track) -> str:
        """Return what the service on this track subscribes to."""
        return f"{self.kind}.{self.service}.{track}.{self.name}.*"

    def __str__(self) -> str:
        """Return the template: the name of spans and metrics."""
        return f"{self.kind}.{self.service}.{self.name}"


PLATFORM = "platform"
"""The tenant token of messages that belong to no tenant."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message goes, before the router has drawn its track."""

    verb: Verb
    tenant: str | None = None

    def on(self, track: Track) -> str:
        """Return the concrete subject."""
        tenant = token(self.tenant or PLATFORM)
        verb = self.verb
        return f"{verb.kind}.{verb.service}.{track}.{verb.name}.{tenant}"

    def __str__(self) -> str:
        """Return the form that outbox rows keep: no track."""
        return f"{self.verb}.{token(self.tenant or PLATFORM)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form that outbox rows keep; ValueError when it is not one."""
        kind, service, name, tenant = text.split(".")
        verb = Verb(Kind(kind), Service(service), name)
        return cls(verb, None if tenant == PLATFORM else tenant)


def token(text: str) -> str:
    """Return the text when it is one safe subject token; ValueError otherwise."""
    # Not ``match``: to Python ``$`` also stands before a last line break.
    if TOKEN.fullmatch(text) is None:
        message = f"{text!r} cannot be part of a subject: use letters, digits, - and _"
        raise ValueError(message)
    return text


def work(service: Service, name: str) -> Verb:
    """Name something that a service must process."""
    return Verb(Kind.WORK, service, name)


def svc(service: Service, name: str) -> Verb:
    """Name something that a service answers."""
    return Verb(Kind.SVC, service, name)


SUBMIT = work(Service.ORCHESTRATOR, "submit")
TURN = work(Service.ORCHESTRATOR, "turn")
STEP_FINISHED = work(Service.ORCHESTRATOR, "step-finished")
STEP = work(Service.AGENT_RUNTIME, "step")
CANCEL_STEP = work(Service.AGENT_RUNTIME, "cancel")
USAGE = work(Service.BILLING_METER, "usage")

TASK_GET = svc(Service.ORCHESTRATOR, "task-get")
TASK_LIST = svc(Service.ORCHESTRATOR, "task-list")
TASK_EVENTS = svc(Service.ORCHESTRATOR, "task-events")
TASK_CANCEL = svc(Service.ORCHESTRATOR, "task-cancel")
TRIGGER_APPLY = svc(Service.ORCHESTRATOR, "trigger-apply")
TRIGGER_LIST = svc(Service.ORCHESTRATOR, "trigger-list")
EMPLOYEE_APPLY = svc(Service.AGENT_RUNTIME, "employee-apply")
EMPLOYEE_GET = svc(Service.AGENT_RUNTIME, "employee-get")
EMPLOYEE_LIST = svc(Service.AGENT_RUNTIME, "employee-list")
COMPLETE = svc(Service.AI_BROKER, "complete")
EMBED = svc(Service.AI_BROKER, "embed")
MODELS = svc(Service.AI_BROKER, "models")
VENDORS = svc(Service.AI_BROKER, "vendors")
VENDOR_CHECK = svc(Service.AI_BROKER, "vendor-check")
CREDENTIAL_PUT = svc(Service.AI_BROKER, "credential-put")
CREDENTIAL_REMOVE = svc(Service.AI_BROKER, "credential-remove")
CREDENTIAL_LIST = svc(Service.AI_BROKER, "credential-list")
TASK_COST = svc(Service.BILLING_METER, "task-cost")
LEDGER = svc(Service.BILLING_METER, "ledger")
PRICES = svc(Service.BILLING_METER, "prices")
LEASE = svc(Service.BILLING_METER, "lease")
LEASE_RETURN = svc(Service.BILLING_METER, "lease-return")
BUDGET_APPLY = svc(Service.BILLING_METER, "budget-apply")
BUDGET_LIST = svc(Service.BILLING_METER, "budget-list")
BALANCES = svc(Service.BILLING_METER, "balances")
TENANTS = svc(Service.GATEWAY, "tenants")
RECONCILE = svc(Service.BOOTSTRAP, "reconcile")

WORK_VERBS = (SUBMIT, TURN, STEP_FINISHED, STEP, CANCEL_STEP, USAGE)
"""Every durable that the bootstrap makes, one per verb and track."""


def missing(service: Service) -> Verb:
    """Name the question which of these message ids the service has not got."""
    return svc(service, "missing")


def dead_letters(service: Service) -> Verb:
    """Name the listing of a service's dead letters."""
    return svc(service, "deadletter-list")


def replay(service: Service) -> Verb:
    """Name the replay of one of a service's dead letters."""
    return svc(service, "deadletter-replay")


def cancel_completion(instance: str) -> str:
    """Return where one ai-broker replica hears that a caller gave up."""
    return f"svc.{Service.AI_BROKER}.{token(instance)}.cancel"


def recall_leases(tenant: str) -> str:
    """Return where every ai-broker replica hears that a tenant's slices are wanted."""
    return f"svc.{Service.AI_BROKER}.every.recall.{token(tenant)}"


RECALL_ANY = f"svc.{Service.AI_BROKER}.every.recall.*"


def task_changed(tenant: str, task_id: str) -> str:
    """Return the subject of one task's facts."""
    return f"evt.{Service.ORCHESTRATOR}.task.{token(tenant)}.{token(task_id)}"


def tenant_changed(tenant: str) -> str:
    """Return the bell that rings when a tenant is made or changed."""
    return f"evt.{Service.GATEWAY}.tenant.{token(tenant)}"


def dead_letter_notice(service: Service) -> str:
    """Return where operators hear of a new dead letter."""
    return f"evt.{PLATFORM}.deadletter.{service}"


def live(tenant: str, task_id: str) -> str:
    """Return the subject of one task's token deltas."""
    return f"live.{token(tenant)}.{token(task_id)}"


def events_stream(tenant: str) -> str:
    """Return the name of the stream that holds one tenant's foreign events."""
    return f"EVENTS_{token(tenant)}"


def events_pattern(tenant: str) -> str:
    """Return what a tenant's own systems may publish."""
    return f"events.{token(tenant)}.>"


def work_stream(service: Service) -> str:
    """Return the name of a service's work queue: ``WORK_AGENT_RUNTIME``."""
    return f"WORK_{service.upper().replace('-', '_')}"


def durable(verb: Verb, track: Track) -> str:
    """Return the durable consumer of one verb on one track."""
    return f"{verb.name}-{track}"


EVENTS_DURABLE = "orchestrator"
"""The orchestrator's durable on every tenant's events stream."""
EVT_STREAM = "EVT"
