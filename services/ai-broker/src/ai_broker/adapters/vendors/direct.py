"""
The direct transport: aiohttp and orjson, nothing between.

A pool of connections per vendor, without Nagle's delay (aiohttp's default); proxies
from the environment; certificates checked; no redirect followed and no cookie kept,
so that a key goes only where the catalogue says. Answers come uncompressed: their
size is bounded where it is read.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import orjson

from ai_broker.adapters.vendors import failures
from ai_broker.adapters.vendors.dialect import DIALECTS
from ai_broker.adapters.vendors.transport import (
    Asked,
    Patience,
    Reply,
    credentials,
    lower,
)
from ai_broker.domain.catalogue import Endpoint
from contracts.message import JsonObject

CONNECTIONS_MAX: Final = 512
KEEPALIVE_S: Final = 30.0
ERROR_BYTES_MAX: Final = 64 * 1024
MARGIN_S: Final = 1.0
_TAKEN: Final = range(200, 300)
_ACCEPT: Final = {
    Asked.ANSWER: "text/event-stream",
    Asked.VECTORS: "application/json",
}


class DirectTransport:
    """
    One vendor's connections.

    Args:
        endpoint: Where it is, and its key.
        patience: Limits of single steps.
    """

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        entry, dialect = endpoint.entry, DIALECTS[endpoint.entry.protocol]
        self._endpoint = endpoint
        self._name = entry.name
        base_url = endpoint.base_url.rstrip("/")
        self._urls = {
            Asked.ANSWER: base_url + dialect.path,
            Asked.VECTORS: base_url + "/embeddings",
        }
        self._query = dict(entry.query)
        self._patience = patience
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "digital-employee",
            **dialect.headers,
            **entry.headers,
            **credentials(endpoint),
        }
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def call(
        self,
        body: JsonObject,
        attempt_id: str,
        timeout_s: float,
        asked: Asked = Asked.ANSWER,
    ) -> AsyncGenerator[Reply]:
        """Post a body and give the reply; every failure is a ``VendorError``."""
        timeout = aiohttp.ClientTimeout(
            # Whoever calls ends the call in time; this is for those who forget.
            total=timeout_s + MARGIN_S,
            connect=self._patience.connect_s,
            sock_read=min(self._patience.idle_s, timeout_s),
        )
        answering = False
        try:
            async with self._opened().post(
                self._urls[asked],
                params=self._query or None,
                data=orjson.dumps(body),
                headers={"x-client-request-id": attempt_id, "accept": _ACCEPT[asked]},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                headers = lower(response.headers)
                if response.status not in _TAKEN:
                    told = await _told(response)
                    status = response.status
                    raise failures.refused(self._endpoint, status, headers, told)
                answering = True
                chunks = response.content.iter_any()
                losses = (aiohttp.ClientError, TimeoutError)
                yield Reply(response.status, headers, chunks, losses)
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.ClientHttpProxyError,
            aiohttp.InvalidURL,
        ) as error:
            raise failures.unreached(self._name) from error
        except TimeoutError as error:
            raise failures.silent(self._name, answering=answering) from error
        except aiohttp.ClientError as error:
            raise failures.broken(self._name, answering=answering) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_S
                ),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
            )
        return self._session


async def _told(response: aiohttp.ClientResponse) -> bytes:
    """Return what a vendor says with an error, as far as anybody will read it."""
    told = bytearray()
    async for chunk in response.content.iter_any():
        told += chunk
        if len(told) >= ERROR_BYTES_MAX:
            break
    return bytes(told)
