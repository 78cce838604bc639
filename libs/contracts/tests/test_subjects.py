"""Subjects keep the grammar, whatever is put into them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import subjects
from contracts.ids import NAME_PATTERN
from contracts.subjects import Address, Service, Track, Verb

TENANTS = st.from_regex(NAME_PATTERN, fullmatch=True)
TOKENS_MAX = 8
VERBS = [value for value in vars(subjects).values() if isinstance(value, Verb)]


@given(tenant=TENANTS, verb=st.sampled_from(VERBS))
def test_an_address_survives_the_outbox(tenant: str, verb: Verb) -> None:
    """What a row keeps is what the relay sends to, platform messages included."""
    address = verb.to(None if tenant == subjects.PLATFORM else tenant)
    assert Address.parse(str(address)) == address
    assert Address.parse(str(verb.to())) == verb.to()


@given(tenant=TENANTS, verb=st.sampled_from(VERBS), track=st.sampled_from(Track))
def test_a_service_hears_what_is_sent_to_it(
    tenant: str, verb: Verb, track: Track
) -> None:
    """The concrete subject is the pattern with the tenant in the place of the star."""
    subject = verb.to(tenant).on(track)
    assert verb.pattern(track).removesuffix("*") + tenant == subject
    assert len(subject.split(".")) <= TOKENS_MAX


@pytest.mark.parametrize(
    "text", ["", "a.b", "a b", "*", ">", "a\n", "a\r\nPUB x", "ä", "a" * 65, "\0"]
)
def test_what_is_no_token_reaches_no_subject(text: str) -> None:
    """A dot, a wildcard or a line break would address something else."""
    with pytest.raises(ValueError, match="subject"):
        subjects.token(text)
    for make in (subjects.cancel_completion, subjects.events_pattern):
        with pytest.raises(ValueError, match="subject"):
            make(text)
    if text:
        with pytest.raises(ValueError, match="subject"):
            str(subjects.SUBMIT.to(text))


@pytest.mark.parametrize(
    "text", ["", "work.orchestrator.submit", "work.nobody.submit.acme", "a.b.c.d.e"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A row that cannot be sent is noticed, not sent somewhere."""
    with pytest.raises(ValueError, match=r".+"):
        Address.parse(text)


def test_verbs_are_told_apart() -> None:
    """No two verbs share a template, and each work verb has its own durable."""
    assert len({str(verb) for verb in VERBS}) == len(VERBS)
    durables = {
        (subjects.work_stream(verb.service), subjects.durable(verb, track))
        for verb in subjects.WORK_VERBS
        for track in Track
    }
    assert len(durables) == len(subjects.WORK_VERBS) * len(Track)


def test_names_of_the_platform() -> None:
    """The names that permissions and dashboards are written with."""
    assert subjects.SUBMIT.to("acme").on(Track.STABLE) == (
        "work.orchestrator.stable.submit.acme"
    )
    assert str(subjects.missing(Service.AI_BROKER).to()) == (
        "svc.ai-broker.missing.platform"
    )
    assert subjects.task_changed("acme", "t") == "evt.orchestrator.task.acme.t"
    assert subjects.live("acme", "t") == "live.acme.t"
    assert subjects.work_stream(Service.AGENT_RUNTIME) == "WORK_AGENT_RUNTIME"
    assert subjects.dead_letter_notice(Service.GATEWAY) == (
        "evt.platform.deadletter.gateway"
    )
