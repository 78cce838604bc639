"""
What must exist on NATS, as data; nothing here talks to a server.

Two tables say who speaks to whom, and everything else follows from them: a new verb
is one line in ``contracts.subjects`` and one line here.
"""

from dataclasses import dataclass
from typing import Final

from contracts.subjects import (
    BALANCES,
    BUDGET_APPLY,
    BUDGET_LIST,
    CANCEL_STEP,
    COMPLETE,
    CREDENTIAL_LIST,
    CREDENTIAL_PUT,
    CREDENTIAL_REMOVE,
    EMBED,
    EMPLOYEE_APPLY,
    EMPLOYEE_GET,
    EMPLOYEE_LIST,
    EVENTS_DURABLE,
    EVT_STREAM,
    LEASE,
    LEASE_RETURN,
    LEDGER,
    MODELS,
    PRICES,
    RECALL_ANY,
    RECONCILE,
    STEP,
    STEP_FINISHED,
    SUBMIT,
    TASK_CANCEL,
    TASK_COST,
    TASK_EVENTS,
    TASK_GET,
    TASK_LIST,
    TENANTS,
    TRIGGER_APPLY,
    TRIGGER_LIST,
    TURN,
    USAGE,
    VENDOR_CHECK,
    VENDORS,
    WORK_VERBS,
    Service,
    Track,
    Verb,
    dead_letters,
    durable,
    events_pattern,
    events_stream,
    missing,
    replay,
    work_stream,
)

MIB: Final = 1024 * 1024
DAY_S: Final = 24 * 3600.0

ACK_WAIT_S: Final = 30.0
ACK_PENDING_MAX: Final = 256
STORED_BYTES_MAX: Final = MIB
"""One message on a stream; only requests that nobody stores may be larger."""
DEDUPE_WINDOW_S: Final = 120.0
WORK_BYTES_MAX: Final = 256 * MIB
WORK_MESSAGES_MAX: Final = 200_000
EVT_BYTES_MAX: Final = 128 * MIB
EVT_MESSAGES_MAX: Final = 500_000
EVENTS_BYTES_MAX: Final = 32 * MIB
EVENTS_MESSAGES_MAX: Final = 100_000
ROUTES_BYTES_MAX: Final = MIB
ROUTES_BUCKET: Final = "ROUTES"
"""Weights of the tracks, per service; the router will read them."""

SENDERS: Final[dict[Verb, tuple[Service, ...]]] = {
    SUBMIT: (Service.GATEWAY,),
    TURN: (Service.AGENT_RUNTIME,),
    STEP_FINISHED: (Service.AGENT_RUNTIME,),
    STEP: (Service.ORCHESTRATOR,),
    CANCEL_STEP: (Service.ORCHESTRATOR,),
    USAGE: (Service.AI_BROKER,),
}
"""Who owes work to whom; a sender may also ask the receiver what it is missing."""

ASKERS: Final[dict[Verb, tuple[Service, ...]]] = {
    TASK_GET: (Service.GATEWAY,),
    TASK_LIST: (Service.GATEWAY,),
    TASK_EVENTS: (Service.GATEWAY,),
    TASK_CANCEL: (Service.GATEWAY,),
    TRIGGER_APPLY: (Service.GATEWAY,),
    TRIGGER_LIST: (Service.GATEWAY,),
    EMPLOYEE_APPLY: (Service.GATEWAY,),
    EMPLOYEE_GET: (Service.GATEWAY,),
    EMPLOYEE_LIST: (Service.GATEWAY,),
    COMPLETE: (Service.GATEWAY, Service.AGENT_RUNTIME),
    EMBED: (Service.GATEWAY, Service.AGENT_RUNTIME),
    MODELS: (Service.GATEWAY,),
    VENDORS: (Service.GATEWAY,),
    VENDOR_CHECK: (Service.GATEWAY,),
    CREDENTIAL_PUT: (Service.GATEWAY,),
    CREDENTIAL_REMOVE: (Service.GATEWAY,),
    CREDENTIAL_LIST: (Service.GATEWAY,),
    TASK_COST: (Service.GATEWAY,),
    LEDGER: (Service.GATEWAY,),
    PRICES: (Service.GATEWAY, Service.AI_BROKER),
    LEASE: (Service.AI_BROKER,),
    LEASE_RETURN: (Service.AI_BROKER,),
    BUDGET_APPLY: (Service.GATEWAY,),
    BUDGET_LIST: (Service.GATEWAY,),
    BALANCES: (Service.GATEWAY,),
    TENANTS: (Service.BOOTSTRAP,),
    RECONCILE: (Service.GATEWAY,),
}
"""Who may ask whom; every service's dead letters are the gateway's to ask for."""

ANNOUNCES: Final[dict[Service, tuple[str, ...]]] = {
    Service.GATEWAY: ("evt.gateway.tenant.*",),
    Service.ORCHESTRATOR: ("evt.orchestrator.task.*.*",),
    Service.AGENT_RUNTIME: ("live.*.*",),
    Service.BILLING_METER: (RECALL_ANY,),
}
"""Bells and deltas; everyone may also ring for its own dead letters."""

HEARS: Final[dict[Service, tuple[str, ...]]] = {
    Service.GATEWAY: (
        "evt.orchestrator.task.*.*",
        "evt.platform.deadletter.*",
        "live.*.*",
    ),
    Service.BOOTSTRAP: ("evt.gateway.tenant.*",),
}
"""What a service hears beside its own requests."""

CANCEL_ANY: Final = "svc.ai-broker.*.cancel"
SYSTEM_USER: Final = "sys"
SYSTEM_ACCOUNT: Final = "SYS"
APP_ACCOUNT: Final = "APP"
"""Every service and every stream; tenants are outside, each in its own account."""
SERVICE_USERS: Final = tuple(str(service) for service in Service)
ALL_USERS: Final = (*SERVICE_USERS, SYSTEM_USER)
"""Whoever needs a password at set-up."""

MANAGES_STREAMS: Final = (
    "$JS.API.STREAM.CREATE.*",
    "$JS.API.STREAM.UPDATE.*",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.NAMES",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.>",
    "$JS.API.CONSUMER.INFO.*.*",
    "$JS.API.INFO",
)
"""The bootstrap's: it makes and reads, and can neither read messages nor delete."""

READS_EVENTS: Final = (
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.INFO.*",
    f"$JS.API.CONSUMER.INFO.*.{EVENTS_DURABLE}",
    f"$JS.API.CONSUMER.MSG.NEXT.*.{EVENTS_DURABLE}",
    f"$JS.ACK.*.{EVENTS_DURABLE}.>",
)
"""The orchestrator's: the durable of this name is on events streams only."""

SYSTEM_PUBLISHES: Final = (
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.SERVER.*.RELOAD",
    "$SYS.REQ.SERVER.*.VARZ",
)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream that must exist."""

    name: str
    subjects: tuple[str, ...]
    is_work_queue: bool
    """Kept until acked and then gone; else kept for its age."""
    is_refusing_when_full: bool
    """Publishers get an error; else the oldest are dropped."""
    bytes_max: int
    messages_max: int
    age_max_s: float
    """0 keeps for ever."""


@dataclass(frozen=True, slots=True)
class Durable:
    """A pull consumer that must exist: explicit ack, endless deliveries."""

    stream: str
    name: str
    filter_subject: str


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a user may do."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def work_streams() -> tuple[Stream, ...]:
    """Return the work queue of every service that is sent work."""
    receivers = sorted({verb.service for verb in WORK_VERBS})
    return tuple(_work_stream(service) for service in receivers)


def evt_stream() -> Stream:
    """Return the stream of facts; losing one costs nothing."""
    return Stream(
        name=EVT_STREAM,
        subjects=("evt.>",),
        is_work_queue=False,
        is_refusing_when_full=False,
        bytes_max=EVT_BYTES_MAX,
        messages_max=EVT_MESSAGES_MAX,
        age_max_s=DAY_S,
    )


def events_stream_of(tenant: str) -> Stream:
    """
    Return the stream of one tenant's foreign events.

    A work queue, so that it holds only what the orchestrator has not taken; when
    full it refuses, since dropping an old event would lose it in silence.
    """
    return Stream(
        name=events_stream(tenant),
        subjects=(events_pattern(tenant),),
        is_work_queue=True,
        is_refusing_when_full=True,
        bytes_max=EVENTS_BYTES_MAX,
        messages_max=EVENTS_MESSAGES_MAX,
        age_max_s=7 * DAY_S,
    )


def work_durables() -> tuple[Durable, ...]:
    """Return one durable per verb and track."""
    return tuple(
        Durable(work_stream(verb.service), durable(verb, track), verb.pattern(track))
        for verb in WORK_VERBS
        for track in Track
    )


def events_durable_of(tenant: str) -> Durable:
    """Return the orchestrator's durable on one tenant's events."""
    return Durable(events_stream(tenant), EVENTS_DURABLE, events_pattern(tenant))


def permissions_of(service: Service) -> Permissions:
    """Return what a service's user may publish and subscribe, and no more."""
    return Permissions(
        publish=_unique(
            *(_any_track(verb) for verb, who in SENDERS.items() if service in who),
            *(_any_track(missing(receiver)) for receiver in _receivers_of(service)),
            *(_any_track(verb) for verb, who in ASKERS.items() if service in who),
            *(_dead_letter_questions() if service is Service.GATEWAY else ()),
            *_inboxes_of_askers(service),
            *ANNOUNCES.get(service, ()),
            *_special_publishes(service),
            *_consumes(service),
            f"evt.platform.deadletter.{service}",
        ),
        subscribe=_unique(
            f"svc.{service}.>",
            f"_INBOX.{service}.>",
            *HEARS.get(service, ()),
        ),
    )


def tenant_permissions(tenant: str) -> Permissions:
    """
    Return what a tenant's own systems may do: publish events, read results.

    Its inboxes are its account's, which nobody else is in, so any prefix will do.
    """
    return Permissions(
        publish=(events_pattern(tenant),),
        subscribe=(tenant_facts(tenant), "_INBOX.>"),
    )


def tenant_facts(tenant: str) -> str:
    """Return the subjects of the facts about a tenant's tasks."""
    return f"evt.orchestrator.task.{tenant}.>"


def tenant_account(tenant: str) -> str:
    """Return the name of the account that a tenant has to itself."""
    return f"TENANT_{tenant}"


def system_permissions() -> Permissions:
    """Return what the bootstrap's user in the system account may do."""
    return Permissions(
        publish=SYSTEM_PUBLISHES,
        subscribe=(f"_INBOX.{SYSTEM_USER}.>",),
    )


def tenant_user(tenant: str) -> str:
    """Return the name of a tenant's NATS user."""
    return f"tenant-{tenant}"


def _work_stream(service: Service) -> Stream:
    return Stream(
        name=work_stream(service),
        subjects=tuple(
            verb.pattern(track)
            for verb in WORK_VERBS
            if verb.service is service
            for track in Track
        ),
        is_work_queue=True,
        is_refusing_when_full=True,
        bytes_max=WORK_BYTES_MAX,
        messages_max=WORK_MESSAGES_MAX,
        age_max_s=0,
    )


def _any_track(verb: Verb) -> str:
    return f"{verb.kind}.{verb.service}.*.{verb.name}.*"


def _receivers_of(sender: Service) -> tuple[Service, ...]:
    return tuple(verb.service for verb, who in SENDERS.items() if sender in who)


def _inboxes_of_askers(service: Service) -> tuple[str, ...]:
    """
    Return the inboxes that a service answers into.

    Not ``allow_responses``: it lets one message through, and an answer may have
    many frames; and a reload of the server, as each new tenant causes, forgets
    which responses were allowed and so loses every answer under way (measured
    with 2.15.1). An inbox cannot be guessed: it ends in a random token.
    """
    askers = [
        *(who for verb, who in ASKERS.items() if verb.service is service),
        *(who for verb, who in SENDERS.items() if verb.service is service),
        (Service.GATEWAY,),  # dead letters
    ]
    return _unique(*(f"_INBOX.{asker}.>" for who in askers for asker in who))


def _dead_letter_questions() -> tuple[str, ...]:
    return tuple(
        _any_track(question(service))
        for service in Service
        for question in (dead_letters, replay)
    )


def _special_publishes(service: Service) -> tuple[str, ...]:
    match service:
        case Service.GATEWAY | Service.AGENT_RUNTIME:
            return (CANCEL_ANY,)
        case Service.BOOTSTRAP:
            return MANAGES_STREAMS
        case _:
            return ()


def _consumes(service: Service) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    if any(verb.service is service for verb in WORK_VERBS):
        stream = work_stream(service)
        found = (
            f"$JS.API.CONSUMER.INFO.{stream}.*",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
            f"$JS.ACK.{stream}.>",
        )
    return (*found, *READS_EVENTS) if service is Service.ORCHESTRATOR else found


def _unique(*subjects: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(subjects))
