from typing import Any

import httpx
import pytest

from testkit.platform import Platform

SANDBOX = ("sandbox-anthropic", "sandbox-openai")


async def listed(http: httpx.AsyncClient) -> dict[str, Any]:
    """Return the vendors by name."""
    answer = await http.get("/v1/vendors")
    assert answer.status_code == 200, answer.text
    return {each["name"]: each for each in answer.json()["vendors"]}


async def test_vendors_are_shown_with_how_they_fare(platform: Platform) -> None:
    """A model that has answered shows its breaker and latency; no key is ever shown."""
    tenant = platform.customer.http
    body = {
        "model": "sandbox-openai/sandbox-small",
        "messages": [{"role": "user", "content": "Hello"}],
    }
    asked = await tenant.post("/v1/chat/completions", json=body)
    assert asked.status_code == 200, asked.text
    for http in (tenant, platform.admin):
        found = await listed(http)
        models = {each["name"]: each for each in found["sandbox-openai"]["models"]}
        assert models["sandbox-small"]["breaker"] == "closed"
        assert models["sandbox-small"]["first_token_s"] > 0
        assert found["openai"]["usable"] is False
        assert "OPENAI_API_KEY" in found["openai"]["why_not"]


@pytest.mark.parametrize("vendor", SANDBOX)
async def test_a_vendor_that_answers_is_reachable(
    platform: Platform, vendor: str
) -> None:
    """It told its models, and no ledger has heard of it."""
    before = await platform.vendor.mark()
    for http in (platform.customer.http, platform.admin):
        answer = await http.post(f"/v1/vendors/{vendor}/check")
        assert answer.status_code == 200, answer.text
        assert (answer.json()["reach"], answer.json()["http_status"]) == (
            "reachable",
            200,
        )
    assert await platform.vendor.rows(before) == []


async def test_a_vendor_without_a_key_is_told_without_asking_it(
    platform: Platform,
) -> None:
    """And a name that is none is a mistake of whoever asks."""
    http = platform.customer.http
    found = (await http.post("/v1/vendors/openai/check")).json()
    assert (found["reach"], found["http_status"]) == ("unusable", None)
    assert "OPENAI_API_KEY" in found["detail"]
    unknown = await http.post("/v1/vendors/opnai/check")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")
    assert "sandbox-openai" in unknown.json()["detail"]
