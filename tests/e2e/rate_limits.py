"""The rate limits of the platform under test, and what its brokers say of them."""

from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from testkit.platform import Platform
from testkit.until import until
from testkit.valkey_server import ValkeyServer

LIMIT_S: Final = 30.0


class RateLimits:
    """
    A file that the brokers read again when it changes, and the Valkey they count in.

    Nothing asks the Valkey before there are rules; the test that writes some starts it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.server = ValkeyServer()
        self._path = path
        path.write_text("rules: []\n")

    @property
    def environment(self) -> dict[str, str]:
        """Return what the brokers are told."""
        return {
            "AI_BROKER_RATE_FILE": str(self._path),
            "AI_BROKER_REDIS_URL": self.server.url,
        }

    async def write(self, platform: Platform, *rules: dict[str, Any]) -> None:
        """Set the rules; returns once every broker has taken them."""
        before = await counted(platform, "rate_file_reloads_total", outcome="ok")
        new = self._path.with_suffix(".new")
        new.write_text(yaml.safe_dump({"rules": list(rules)}))
        new.replace(self._path)

        async def look() -> bool:
            now = await counted(platform, "rate_file_reloads_total", outcome="ok")
            return all(now[name] > before[name] for name in before)

        await until(look, LIMIT_S, "every broker to take the rate limits")


async def counted(platform: Platform, name: str, **labels: str) -> dict[str, float]:
    """Return a counter of every broker, by its process."""
    urls: dict[str, str] = platform.endpoints["metrics"]
    found: dict[str, float] = {}
    async with httpx.AsyncClient(timeout=LIMIT_S) as client:
        for process, url in urls.items():
            if process.startswith("ai-broker"):
                text = (await client.get(url)).text
                found[process] = sum(
                    sample.value
                    for family in text_string_to_metric_families(text)
                    for sample in family.samples
                    if sample.name == name and labels.items() <= sample.labels.items()
                )
    return found
