"""Rate limits as a tenant meets them: both doors, two brokers, one Valkey."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import openai
import pytest_asyncio
from rate_limits import RateLimits, counted
from sdk_clients import ANTHROPIC_MODEL, OPENAI_MODEL

from determinism import SystemClock
from testkit.platform import Platform
from testkit.until import until

TENANT: Final = "limited"
PER_MINUTE: Final = 12
PACE_S: Final = 60 / PER_MINUTE
LIMIT_S: Final = 60.0
# Any: the SDKs' overloads do not take messages that are plain dictionaries.
HELLO: Final[Any] = [{"role": "user", "content": "Hello"}]


@dataclass(frozen=True)
class Answered:
    """What came back; a refusal is an answer too."""

    status: int
    headers: Mapping[str, str]
    # Any: a body as the SDK read it.
    error: Any = None


@dataclass(frozen=True)
class Tenant:
    """A tenant's SDKs, without retries: OpenAI's at each gateway, and Anthropic's."""

    chats: tuple[openai.AsyncOpenAI, ...]
    messages: anthropic.AsyncAnthropic

    async def chat(self, number: int = 0) -> Answered:
        """Ask by OpenAI's SDK, at each gateway in turn."""
        client = self.chats[number % len(self.chats)]
        completions = client.chat.completions.with_raw_response
        try:
            raw = await completions.create(model=OPENAI_MODEL, messages=HELLO)
        except openai.RateLimitError as error:
            return Answered(error.status_code, error.response.headers, error.body)
        return Answered(raw.status_code, raw.headers)

    async def message(self) -> Answered:
        """Ask by Anthropic's SDK."""
        messages = self.messages.messages.with_raw_response
        try:
            raw = await messages.create(
                model=ANTHROPIC_MODEL, max_tokens=50, messages=HELLO
            )
        except anthropic.RateLimitError as error:
            return Answered(error.status_code, error.response.headers, error.body)
        return Answered(raw.status_code, raw.headers)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited(replicated: Platform, rates: RateLimits) -> AsyncIterator[Tenant]:
    """Lend a tenant that may ask twelve times a minute."""
    customer = await replicated.add_tenant(TENANT)
    key = customer.api_key
    rates.server.start()
    rule = {"scope": "tenant", "tenant": TENANT, "requests_per_minute": PER_MINUTE}
    await rates.write(replicated, rule)
    gateways: list[str] = replicated.endpoints["gateways"]
    async with AsyncExitStack() as stack:
        chats = [
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
            for url in gateways
        ]
        for each in chats:
            await stack.enter_async_context(each)
        messages = anthropic.AsyncAnthropic(
            base_url=gateways[0], api_key=key, max_retries=0
        )
        await stack.enter_async_context(messages)
        yield Tenant(tuple(chats), messages)
    await rates.write(replicated)


async def skips(platform: Platform) -> int:
    """Return how many calls passed uncounted."""
    found = await counted(platform, "rate_limits_skipped_total", step="admit")
    return int(sum(found.values()))


async def test_two_replicas_share_one_limit(
    replicated: Platform, limited: Tenant
) -> None:
    """Exactly a minute's worth is answered by both together, whoever is asked."""
    clock = SystemClock()
    began_s = clock.monotonic()
    skipped = await skips(replicated)
    answers = await asyncio.gather(*(limited.chat(number) for number in range(40)))
    refused = [each for each in answers if each.status == 429]
    # On a machine that stalls a call may pass uncounted, and time goes by.
    uncounted = await skips(replicated) - skipped
    more = uncounted + int((clock.monotonic() - began_s) / PACE_S)
    assert PER_MINUTE <= 40 - len(refused) <= PER_MINUTE + more
    rated = [each for each in answers if "ratelimit" in each.headers]
    assert len(rated) == 40 - uncounted
    by_broker = await counted(
        replicated, "rate_limited_total", kind="tenant", measure="requests"
    )
    assert sum(by_broker.values()) == len(refused)
    assert min(by_broker.values()) > 0
    policy = f'"tenant-requests";q={PER_MINUTE};w=60'
    assert {each.headers["ratelimit-policy"] for each in rated} == {policy}
    for each in refused:
        wait_s = int(each.headers["retry-after"])
        assert 1 <= wait_s <= PACE_S
        assert each.headers["ratelimit"] == f'"tenant-requests";r=0;t={wait_s}'
        assert each.headers["x-should-retry"] == "true"


async def test_each_sdk_reads_the_refusal_as_its_vendors(limited: Tenant) -> None:
    """One limit at both doors, and each SDK raises its own error with its body."""

    async def look() -> tuple[Answered, Answered] | None:
        asked = await limited.message(), await limited.chat()
        return asked if [each.status for each in asked] == [429, 429] else None

    by_anthropic, by_openai = await until(look, LIMIT_S, "both doors to refuse")
    assert by_anthropic.error["type"] == "error"
    assert by_anthropic.error["error"]["type"] == "rate_limit_error"
    assert by_openai.error["code"] == "rate_limit_exceeded"
    for each in (by_anthropic, by_openai):
        assert each.headers["ratelimit"].startswith('"tenant-requests";r=0;t=')
    assert by_anthropic.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert by_openai.headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_dead_valkey_limits_nobody_and_is_found_again(
    replicated: Platform, limited: Tenant, rates: RateLimits
) -> None:
    """Rates keep order and are no money: calls pass, counted as such."""
    rates.server.kill()
    skipped = await skips(replicated)
    answers = [await limited.chat(number) for number in range(2 * PER_MINUTE)]
    assert {each.status for each in answers} == {200}
    assert await skips(replicated) - skipped == 2 * PER_MINUTE
    rates.server.start()

    async def look() -> bool:
        return (await limited.chat()).status == 429

    await until(look, LIMIT_S, "the limit to hold again")
