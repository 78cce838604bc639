"""
The direct transport: aiohttp and orjson, nothing between.

A pool of connections per vendor, without Nagle's delay (aiohttp's default); the proxy
that the environment names; certificates checked; no redirect followed and no cookie
kept, so that a key goes only where the catalogue says. Answers come uncompressed:
their size is bounded where it is read.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from yarl import URL

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
    Asked.MODELS: "application/json",
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
            Asked.ANSWER: URL(base_url + dialect.path),
            Asked.VECTORS: URL(base_url + "/embeddings"),
            Asked.MODELS: URL(base_url + dialect.models_path),
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
        self._proxy = proxy_for(self._urls[Asked.ANSWER])
        if self._urls[Asked.ANSWER].scheme == "http":
            # There is no CONNECT then: the login goes with each request.
            self._headers.update(self._proxy.headers or {})
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def call(
        self,
        body: JsonObject,
        attempt_id: str,
        timeout_s: float,
        asked: Asked = Asked.ANSWER,
    ) -> AsyncGenerator[Reply]:
        """Ask and give the reply; every failure is a ``VendorError``."""
        timeout = aiohttp.ClientTimeout(
            # Whoever calls ends the call in time; this is for those who forget.
            total=timeout_s + MARGIN_S,
            connect=self._patience.connect_s,
            sock_read=min(self._patience.idle_s, timeout_s),
        )
        answering = False
        try:
            async with self._opened().request(
                "GET" if asked is Asked.MODELS else "POST",
                self._urls[asked],
                params=self._query or None,
                data=None if asked is Asked.MODELS else orjson.dumps(body),
                headers={
                    **self._headers,
                    "x-client-request-id": attempt_id,
                    "accept": _ACCEPT[asked],
                },
                proxy=self._proxy.url,
                proxy_headers=self._proxy.headers,
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
            # Not trust_env: it asks two threads, one of them for ~/.netrc, per call. No
            # headers here: aiohttp would tell them, the key too, to a proxy.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


@dataclass(frozen=True)
class Proxy:
    """What carries calls, if anything does, and its login."""

    url: URL | None = None
    headers: Mapping[str, str] | None = None


def proxy_for(url: URL) -> Proxy:
    """Return the proxy that the environment names for an address."""
    named = getproxies().get(url.scheme)
    if named is None or url.host is None or proxy_bypass(url.host):
        return Proxy()
    proxy = URL(named)
    if proxy.user is None:
        return Proxy(proxy)
    login = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
    return Proxy(proxy.with_user(None), {"proxy-authorization": login})


async def _told(response: aiohttp.ClientResponse) -> bytes:
    """Return what a vendor says with an error, as far as anybody will read it."""
    told = bytearray()
    async for chunk in response.content.iter_any():
        told += chunk
        if len(told) >= ERROR_BYTES_MAX:
            break
    return bytes(told)
