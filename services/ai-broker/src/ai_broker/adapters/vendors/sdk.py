"""
The transport by the vendors' official SDKs.

The SDKs cost a second of CPU to import, so that happens on the first call, in a
thread. Their own retries are off: every attempt must have its own row. A body is
theirs to carry, not to check, so all but what they insist on is ``extra_body``.
"""

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from ai_broker.adapters.vendors import failures
from ai_broker.adapters.vendors.dialect import DIALECTS
from ai_broker.adapters.vendors.transport import (
    Asked,
    Patience,
    Reply,
    credentials,
    lower,
)
from ai_broker.domain.catalogue import Endpoint, Protocol
from ai_broker.domain.vendor import VendorError
from contracts.message import JsonObject

C = TypeVar("C")

_INSISTED: Final = {
    (Protocol.OPENAI, Asked.ANSWER): ("model", "messages"),
    (Protocol.ANTHROPIC, Asked.ANSWER): ("model", "messages", "max_tokens"),
    (Protocol.OPENAI, Asked.VECTORS): ("model", "input"),
}
_RESOURCE: Final = {
    (Protocol.OPENAI, Asked.ANSWER): attrgetter("chat.completions"),
    (Protocol.ANTHROPIC, Asked.ANSWER): attrgetter("messages"),
    (Protocol.OPENAI, Asked.VECTORS): attrgetter("embeddings"),
}


class Lazy(Generic[C]):
    """An SDK's client, made at its first use."""

    def __init__(self, module: str, make: Callable[[], C]) -> None:
        self._module = module
        self._make = make
        self._lock = asyncio.Lock()
        self.made: C | None = None

    async def get(self) -> C:
        """Return the client."""
        async with self._lock:
            if self.made is None:
                await asyncio.to_thread(importlib.import_module, self._module)
                # At DEBUG, which OPENAI_LOG would set, the SDKs write whole prompts.
                logging.getLogger(self._module).setLevel(logging.WARNING)
                self.made = self._make()
            return self.made


class SdkTransport:
    """
    One vendor's connections.

    Args:
        endpoint: Where it is, and its key.
        patience: Limits of single steps.
    """

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        self._endpoint = endpoint
        self._name = endpoint.entry.name
        self._protocol = endpoint.entry.protocol
        self._patience = patience
        self._client = Lazy(self._protocol.value, self._make)

    @asynccontextmanager
    async def call(
        self,
        body: JsonObject,
        attempt_id: str,
        timeout_s: float,
        asked: Asked = Asked.ANSWER,
    ) -> AsyncGenerator[Reply]:
        """Ask and give the reply; every failure is a ``VendorError``."""
        client = await self._client.get()
        import httpx2  # noqa: PLC0415 -- comes with the SDKs, and as lazily

        timeout = httpx2.Timeout(
            min(self._patience.idle_s, timeout_s), connect=self._patience.connect_s
        )
        headers = {"x-client-request-id": attempt_id} | self._omitted()
        with _translated(self._endpoint):
            async with self._asking(client, asked, body)(
                extra_headers=headers, timeout=timeout
            ) as response:
                headers = lower(response.headers)
                chunks = response.iter_bytes()
                losses = (httpx2.HTTPError,)
                yield Reply(response.status_code, headers, chunks, losses)

    # Any: two SDKs with one shape, without a common base.
    def _asking(self, client: Any, asked: Asked, body: JsonObject) -> Any:
        """Return the SDK's method with all that is said by the body."""
        if asked is Asked.MODELS:
            return client.models.with_streaming_response.list
        insisted = _INSISTED[self._protocol, asked]
        return partial(
            _RESOURCE[self._protocol, asked](client).with_streaming_response.create,
            **{name: body[name] for name in insisted},
            **({"stream": True} if asked is Asked.ANSWER else {}),
            extra_body={k: value for k, value in body.items() if k not in insisted},
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._client.made is not None:
            await self._client.made.close()

    def _omitted(self) -> dict[str, Any]:
        """Return the SDK's own credentials as left out, where others stand in."""
        if self._endpoint.entry.key_header is None:
            return {}
        return {"Authorization": importlib.import_module(self._protocol.value).Omit()}

    # Any: two SDKs with one shape, without a common base.
    def _make(self) -> Any:
        sdk: Any = importlib.import_module(self._protocol.value)
        entry = self._endpoint.entry
        headers = {
            **DIALECTS[self._protocol].headers,
            **entry.headers,
            **credentials(self._endpoint),
        }
        name = "AsyncOpenAI" if self._protocol is Protocol.OPENAI else "AsyncAnthropic"
        return getattr(sdk, name)(
            api_key=self._endpoint.key,
            base_url=self._endpoint.base_url,
            default_headers=headers,
            default_query=dict(entry.query),
            http_client=sdk.DefaultAsyncHttpxClient(follow_redirects=False),
            max_retries=0,
        )


@contextmanager
def _translated(endpoint: Endpoint) -> Generator[None]:
    """Turn what an SDK raises into ``VendorError``."""
    import httpx2  # noqa: PLC0415 -- comes with the SDKs, and as lazily

    # Any: both SDKs have the same tree of errors, without a common base.
    sdk: Any = importlib.import_module(endpoint.entry.protocol.value)
    vendor = endpoint.entry.name
    try:
        yield
    except sdk.APIStatusError as error:
        status, headers = error.status_code, lower(error.response.headers)
        told = error.response.content
        raise failures.refused(endpoint, status, headers, told) from error
    except sdk.APIConnectionError as error:
        raise _before_an_answer(vendor, error.__cause__) from error
    except httpx2.TimeoutException as error:
        raise failures.silent(vendor, answering=True) from error
    except httpx2.TransportError as error:
        raise failures.broken(vendor, answering=True) from error


def _before_an_answer(vendor: str, cause: BaseException | None) -> VendorError:
    import httpx2  # noqa: PLC0415 -- comes with the SDKs, and as lazily

    match cause:
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.PoolTimeout():
            return failures.unreached(vendor)
        case httpx2.TimeoutException():
            return failures.silent(vendor, answering=False)
        case _:
            return failures.broken(vendor, answering=False)
