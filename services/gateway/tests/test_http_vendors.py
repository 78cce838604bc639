"""Tenants' own vendor keys go to ai-broker, and never come back."""

import io
import logging
from collections.abc import Generator

import httpx
import pytest
import structlog
from gateway_world import AS_ADMIN, Headers, ScriptedBus

from contracts import subjects
from contracts.credentials import (
    CredentialInfo,
    CredentialPage,
    ListCredentials,
    PutCredential,
    RemoveCredential,
)
from contracts.delivery import Nothing
from contracts.vendors import (
    CheckVendor,
    KeySource,
    ListVendors,
    Reach,
    VendorCheck,
    VendorInfo,
    VendorPage,
)
from telemetry.logs import configure_logs

KEY = "sk-tenant-0123456789abcdef"
INFO = {
    "vendor": "openai",
    "created_at": "2026-11-23T12:00:00Z",
    "fingerprint": "0123456789ab",
    "last4": "cdef",
}


@pytest.fixture
def written() -> Generator[io.BytesIO]:
    """Collect every log line, of the lowest level too."""
    stream, handlers = io.BytesIO(), logging.getLogger().handlers
    configure_logs("gateway", "gateway_1", "DEBUG", stream)
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers


async def test_a_key_is_put_listed_and_removed(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, written: io.BytesIO
) -> None:
    """The owner gets the key with the caller's tenant; the caller gets no key back."""
    bus.answers = {
        "credential-put": lambda _: CredentialInfo.model_validate(INFO),
        "credential-list": lambda _: CredentialPage.model_validate(
            {"credentials": [INFO]}
        ),
        "credential-remove": lambda _: Nothing(),
    }
    at = "/v1/vendors/openai/credential"
    put = await client.put(at, json={"key": KEY}, headers=acme)
    listed = await client.get("/v1/vendors/credentials", headers=acme)
    removed = await client.delete(at, headers=acme)
    assert (put.status_code, listed.status_code, removed.status_code) == (200, 200, 204)
    assert put.json() == INFO
    assert listed.json() == {"credentials": [INFO]}
    assert [each for _, each in bus.asked[-3:]] == [
        PutCredential.model_validate(
            {"tenant": "acme", "vendor": "openai", "key": KEY}
        ),
        ListCredentials(tenant="acme"),
        RemoveCredential(tenant="acme", vendor="openai"),
    ]
    assert KEY not in repr(bus.asked) + put.text + listed.text
    assert KEY.encode() not in written.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        {"key": "sk-bad"},
        {"key": "sk-bad" * 100},
        {"key": ["sk-bad-as-a-list"]},
        {"keys": "sk-bad-0123456789"},
        "sk-bad-0123456789",
    ],
)
async def test_a_bad_body_is_refused_without_quoting_it(
    client: httpx.AsyncClient, acme: Headers, body: object, written: io.BytesIO
) -> None:
    """What was sent may be a key: no error and no log repeats it."""
    answer = await client.put("/v1/vendors/openai/credential", json=body, headers=acme)
    assert answer.status_code == 400
    assert "sk-bad" not in answer.text
    assert b"sk-bad" not in written.getvalue()


async def test_keys_are_a_tenant_s_own(client: httpx.AsyncClient) -> None:
    """An admin's key speaks for no tenant, so it has none to put."""
    answer = await client.put(
        "/v1/vendors/openai/credential", json={"key": KEY}, headers=AS_ADMIN
    )
    assert answer.status_code == 403


PAGE = VendorPage(
    vendors=(
        VendorInfo(name="openai", protocol="openai", usable=True, key=KeySource.OWN),
    ),
    instance="broker_1",
)
CHECK = VendorCheck(
    vendor="openai", reach=Reach.KEY_REFUSED, detail="put a new one", http_status=401
)


async def test_vendors_are_shown_and_checked_as_whoever_asks(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """A tenant's view counts its own keys; an admin's is the platform's."""
    bus.answers = {"vendors": lambda _: PAGE, "vendor-check": lambda _: CHECK}
    for headers, tenant in ((acme, "acme"), (AS_ADMIN, None)):
        listed = await client.get("/v1/vendors", headers=headers)
        checked = await client.post("/v1/vendors/openai/check", headers=headers)
        assert listed.json() == PAGE.model_dump(mode="json")
        assert checked.json() == CHECK.model_dump(mode="json")
        assert bus.asked[-2:] == [
            (str(subjects.VENDORS.to(tenant)), ListVendors(tenant=tenant)),
            (
                str(subjects.VENDOR_CHECK.to(tenant)),
                CheckVendor(tenant=tenant, vendor="openai"),
            ),
        ]


async def test_nobody_is_shown_or_checks_a_vendor_without_a_key(
    client: httpx.AsyncClient, bus: ScriptedBus
) -> None:
    """Who is not known is refused before anybody is asked."""
    for answer in (
        await client.get("/v1/vendors"),
        await client.post("/v1/vendors/openai/check"),
    ):
        assert answer.status_code == 401
    assert bus.asked == []
