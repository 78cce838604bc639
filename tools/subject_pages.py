"""
AsyncAPI 3.0 of everything on NATS, for tools/docs.py.

What is listened to comes from the services' own subscriptions, who may send it from
the bootstrap's tables. Only facts, which nobody answers, are listed here.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, assert_never, get_args, get_type_hints

from pydantic.json_schema import models_json_schema

from contracts import headers, subjects
from contracts.deadletters import DeadLetterNotice
from contracts.delivery import Nothing
from contracts.frames import CancelCompletion, Frame
from contracts.message import Message
from contracts.problems import ErrorEnvelope
from contracts.subjects import Kind, Service, Track, Verb
from contracts.tasks import LiveDelta, TaskChanged
from messaging.subscriptions import (
    Answer,
    AnswerInFrames,
    Events,
    Hear,
    Runnable,
    Subscription,
    Work,
)
from nats_bootstrap.topology import ASKERS, SENDERS

TENANTS: Final = "tenants"
OPERATORS: Final = "operators"

# JSON documents are mappings of anything.
Json = dict[str, Any]

FRAMES: Final[tuple[type[Message], ...]] = get_args(get_args(Frame)[0])

PARAMETERS: Final[dict[str, Json]] = {
    "instance": {"description": "One running process, named in the first frame"},
    "service": {"description": "A service", "enum": [str(s) for s in Service]},
    "task": {"description": "A task's id"},
    "tenant": {"description": f"A tenant's id, or `{subjects.PLATFORM}`"},
    "track": {
        "description": "Which version of the receiver; senders use `stable` for now",
        "enum": [str(track) for track in Track],
    },
    "type": {"description": "The event's type; may have several tokens"},
}

WORK_HEADERS: Final[Json] = {
    "type": "object",
    "required": [headers.MESSAGE_ID, headers.DEDUPE_ID],
    "properties": {
        headers.MESSAGE_ID: {"type": "string", "description": "The inbox's key"},
        headers.DEDUPE_ID: {
            "type": "string",
            "description": "`<message id>.<send number>`: differs on a re-send",
        },
        headers.TASK_KEY: {"type": "string", "description": "The task's id"},
        "traceparent": {"type": "string", "description": "W3C trace context"},
    },
}


@dataclass(frozen=True, slots=True)
class Fact:
    """A subject that nobody answers; these are in no service's subscriptions."""

    address: str
    message: type[Message]
    sender: str
    hearers: tuple[str, ...]


FACTS: Final = (
    Fact(
        subjects.task_changed("TENANT", "TASK"),
        TaskChanged,
        Service.ORCHESTRATOR,
        (Service.GATEWAY, TENANTS),
    ),
    Fact(
        subjects.tenant_changed("TENANT"),
        Nothing,
        Service.GATEWAY,
        (Service.BOOTSTRAP,),
    ),
    Fact(
        f"evt.{subjects.PLATFORM}.deadletter.SERVICE",
        DeadLetterNotice,
        "every service",
        (Service.GATEWAY, OPERATORS),
    ),
    Fact(
        subjects.live("TENANT", "TASK"),
        LiveDelta,
        Service.AGENT_RUNTIME,
        (Service.GATEWAY,),
    ),
    Fact(
        subjects.cancel_completion("INSTANCE"),
        CancelCompletion,
        "gateway, agent-runtime",
        (Service.AI_BROKER,),
    ),
)


@dataclass
class Pages:
    """The parts of an AsyncAPI document as they are found."""

    channels: Json = field(default_factory=dict[str, Any])
    operations: Json = field(default_factory=dict[str, Any])
    models: set[type[Message]] = field(default_factory=set[type[Message]])


def asyncapi(runnables: Iterable[Runnable]) -> Json:
    """Return the AsyncAPI 3.0 document of everything that is listened to."""
    pages = Pages(models={ErrorEnvelope})
    for runnable in runnables:
        for subscription in runnable.subscriptions:
            _describe(runnable.service, subscription, pages)
    for fact in FACTS:
        _fact(fact, pages)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Digital Employee on NATS",
            "version": "1",
            "description": (subjects.__doc__ or "").strip(),
        },
        "defaultContentType": "application/json",
        "channels": pages.channels,
        "operations": pages.operations,
        "components": {"messages": _messages(pages), "schemas": _schemas(pages)},
    }


def _describe(service: Service, subscription: Subscription, pages: Pages) -> None:
    match subscription:
        case Work(verb=verb, message=message):
            _channel(str(verb), _pattern(verb), [message], pages)
            _receive(service, str(verb), pages)
            _send(SENDERS[verb], str(verb), pages)
        case Answer(verb=verb, request=request, answer=answer):
            reply = get_type_hints(answer)["return"]
            _question(service, verb, request, [reply], pages)
        case AnswerInFrames(verb=verb, request=request):
            _question(service, verb, request, FRAMES, pages)
        case Events():
            _foreign(service, pages)
        case Hear():
            pass  # FACTS has it, with its sender
        case _:
            assert_never(subscription)


def _question(
    service: Service,
    verb: Verb,
    request: type[Message],
    replies: Iterable[type[Message]],
    pages: Pages,
) -> None:
    name = str(verb)
    _channel(name, _pattern(verb), [request], pages)
    _channel(f"{name}.reply", None, [*replies, ErrorEnvelope], pages)
    reply = {
        "address": {
            "location": "$message.header#/reply",
            "description": "NATS's reply subject, in the asker's own inbox",
        },
        "channel": _ref(f"channels/{name}.reply"),
    }
    _receive(service, name, pages, reply)
    # Housekeeping questions are asked by senders of work, and by the gateway.
    _send(ASKERS.get(verb, _housekeepers(verb)), name, pages, reply)


def _housekeepers(verb: Verb) -> tuple[Service, ...]:
    if verb != subjects.missing(verb.service):
        return (Service.GATEWAY,)
    owing = (who for work, who in SENDERS.items() if work.service is verb.service)
    return tuple(sorted({sender for who in owing for sender in who}))


def _foreign(service: Service, pages: Pages) -> None:
    name = "events"
    pages.channels[name] = {
        "address": "events.{tenant}.{type}",
        "description": (
            "CloudEvents 1.0, binary (`ce-` headers) or structured "
            "(`application/cloudevents+json`), or plain JSON, which is wrapped."
        ),
        "parameters": _parameters("events.{tenant}.{type}"),
        "messages": {"event": {"name": "event", "payload": {}}},
    }
    _receive(service, name, pages)
    _send((TENANTS,), name, pages)


def _fact(fact: Fact, pages: Pages) -> None:
    address = re.sub(
        r"[A-Z]{4,}", lambda found: f"{{{found[0].lower()}}}", fact.address
    )
    name = re.sub(r"\.?\{\w+\}", "", address)
    _channel(name, address, [fact.message], pages)
    for hearer in fact.hearers:
        _receive(hearer, name, pages)
    _send((fact.sender,), name, pages)


def _channel(
    name: str, address: str | None, models: Iterable[type[Message]], pages: Pages
) -> None:
    found = sorted(models, key=lambda model: model.__name__)
    pages.models.update(found)
    is_work = name.startswith(f"{Kind.WORK}.")
    pages.channels[name] = {
        "address": address,
        "messages": {
            model.__name__: {
                **_message(model),
                "headers": _ref("components/schemas/WorkHeaders"),
            }
            if is_work
            else _ref(f"components/messages/{model.__name__}")
            for model in found
        },
    }
    if parameters := _parameters(address or ""):
        pages.channels[name]["parameters"] = parameters


def _receive(who: str, name: str, pages: Pages, reply: Json | None = None) -> None:
    _operate("receive", who, name, pages, reply)


def _send(
    senders: Iterable[str], name: str, pages: Pages, reply: Json | None = None
) -> None:
    for sender in senders:
        _operate("send", sender, name, pages, reply)


def _operate(
    action: str, who: str, name: str, pages: Pages, reply: Json | None
) -> None:
    operation: Json = {
        "action": action,
        "channel": _ref(f"channels/{name}"),
        "title": f"{who} {action}s {name}",
    }
    if reply is not None:
        operation["reply"] = reply
    key = re.sub(r"[^A-Za-z0-9.-]+", "-", who)
    pages.operations[f"{key}.{action}.{name}"] = operation


def _pattern(verb: Verb) -> str:
    return f"{verb.kind}.{verb.service}.{{track}}.{verb.name}.{{tenant}}"


def _parameters(address: str) -> Json:
    return {name: PARAMETERS[name] for name in re.findall(r"\{(\w+)\}", address)}


def _messages(pages: Pages) -> Json:
    return {model.__name__: _message(model) for model in pages.models}


def _message(model: type[Message]) -> Json:
    summary = (model.__doc__ or "").strip().split("\n\n")[0]
    return {
        "name": model.__name__,
        "summary": " ".join(summary.split()),
        "payload": _ref(f"components/schemas/{model.__name__}"),
    }


def _ref(place: str) -> Json:
    return {"$ref": f"#/{place}"}


def _schemas(pages: Pages) -> Json:
    ordered = sorted(pages.models, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "validation") for model in ordered],
        ref_template="#/components/schemas/{model}",
    )
    found = json.loads(json.dumps(schemas["$defs"]), object_hook=_named)
    return {**found, "WorkHeaders": WORK_HEADERS}


def _named(schema: Json) -> Json:
    """Return a schema whose discriminator is a name; OpenAPI's is an object."""
    match schema.get("discriminator"):
        case {"propertyName": str(name)}:
            return {**schema, "discriminator": name}
        case _:
            return schema
