"""The tables cover every verb, and name the streams that the contracts name."""

from contracts import subjects
from contracts.subjects import (
    WORK_VERBS,
    Kind,
    Service,
    Track,
    Verb,
    durable,
    work_stream,
)
from nats_bootstrap.topology import (
    ASKERS,
    SENDERS,
    permissions_of,
    tenant_permissions,
    work_durables,
    work_streams,
)

VERBS = {each for each in vars(subjects).values() if isinstance(each, Verb)}


def test_every_verb_has_someone_who_may_use_it() -> None:
    """A verb that nobody may send is a line forgotten in the tables."""
    assert set(SENDERS) == {verb for verb in VERBS if verb.kind is Kind.WORK}
    assert set(ASKERS) == {verb for verb in VERBS if verb.kind is Kind.SVC}
    assert set(SENDERS) == set(WORK_VERBS)


def test_every_work_verb_has_a_durable_per_track_that_its_stream_holds() -> None:
    """No durable shares a filter, and no filter is outside its stream."""
    held = {stream.name: stream.subjects for stream in work_streams()}
    made = {(each.stream, each.name): each.filter_subject for each in work_durables()}
    for verb in WORK_VERBS:
        for track in Track:
            subject = made[work_stream(verb.service), durable(verb, track)]
            assert subject in held[work_stream(verb.service)]
    assert len(made) == len(set(made.values())) == len(WORK_VERBS) * len(Track)


def test_a_sender_may_ask_what_is_missing() -> None:
    """Whoever owes work may ask its receiver, or nothing could be confirmed."""
    for verb, senders in SENDERS.items():
        for sender in senders:
            asks = f"svc.{verb.service}.*.missing.*"
            assert asks in permissions_of(sender).publish


def test_a_service_answers_into_its_askers_inboxes_only() -> None:
    """ai-broker's frames go to its two callers; a tenant's inbox is nobody's."""
    assert _inboxes(Service.AI_BROKER) == {"_INBOX.gateway.>", "_INBOX.agent-runtime.>"}
    assert _inboxes(Service.ORCHESTRATOR) == {
        "_INBOX.gateway.>",
        "_INBOX.agent-runtime.>",
    }
    assert _inboxes(Service.BOOTSTRAP) == {"_INBOX.gateway.>"}


def test_a_tenant_may_do_three_things() -> None:
    """It publishes events, reads its tasks' facts, and reads its own inbox."""
    found = tenant_permissions("acme")
    assert found.publish == ("events.acme.>",)
    assert found.subscribe == (
        "evt.orchestrator.task.acme.>",
        "_INBOX.>",
    )


def _inboxes(service: Service) -> set[str]:
    publish = permissions_of(service).publish
    return {subject for subject in publish if subject.startswith("_INBOX.")}
