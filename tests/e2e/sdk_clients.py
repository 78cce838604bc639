"""The vendors' own SDKs as a tenant's clients of the gateway."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from testkit.platform import Platform

OPENAI_MODEL: Final = "sandbox-openai/sandbox-large"
EMBEDDING_MODEL: Final = "sandbox-openai/sandbox-embedding-small"
ANTHROPIC_MODEL: Final = "sandbox-anthropic/sandbox-claude"
VENDORS: Final = (OPENAI_MODEL, ANTHROPIC_MODEL)
LETTER: Final = (
    "Check the sums of this letter:\n"
    "Invoice number: 4712\nSupplier: Elm Tools Ltd\n\n"
    "Hammer  3  19.90  59.70\nNails   2   4.25   8.50\nTotal due EUR 70.20"
)
"""The sandbox asks for two calculations at once, then for one, then answers."""
SUMS: Final = {"3 * 19.90": "59.70", "2 * 4.25": "8.50", "59.70 + 8.50": "68.20"}
"""What it asks the calculator, and what that answers."""


class Letter(BaseModel):
    """What is asked of a letter."""

    invoice_number: str
    supplier: str


HEADER: Final = "Invoice number: 4712\nSupplier: Elm Tools Ltd"
READ: Final = Letter(invoice_number="4712", supplier="Elm Tools Ltd")
"""What a letter with this header says."""


@dataclass(frozen=True)
class Clients:
    """Unchanged SDKs: an address and a tenant's key, nothing else."""

    openai: OpenAI
    async_openai: AsyncOpenAI
    anthropic: Anthropic
    async_anthropic: AsyncAnthropic

    # Any: the SDKs' overloads do not take fields that come from a table.
    @property
    def chat(self) -> Any:
        """OpenAI's chat completions."""
        return self.openai.chat.completions

    @property
    def async_chat(self) -> Any:
        """The same, awaited."""
        return self.async_openai.chat.completions

    @property
    def messages(self) -> Any:
        """Anthropic's messages."""
        return self.anthropic.messages

    @property
    def async_messages(self) -> Any:
        """The same, awaited."""
        return self.async_anthropic.messages


@asynccontextmanager
async def clients_of(platform: Platform) -> AsyncGenerator[Clients]:
    """Lend clients of the development tenant."""
    url, key = platform.endpoints["gateway"], platform.endpoints["api_key"]
    with (
        OpenAI(base_url=f"{url}/v1", api_key=key) as openai,
        Anthropic(base_url=url, api_key=key) as anthropic,
    ):
        async with (
            AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as async_openai,
            AsyncAnthropic(base_url=url, api_key=key) as async_anthropic,
        ):
            yield Clients(openai, async_openai, anthropic, async_anthropic)
