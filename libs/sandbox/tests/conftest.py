"""One real sandbox vendor on a free port, and the official SDKs as its clients."""

import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

# Test folders are no packages: this makes ``sandbox_line`` importable beside them.
sys.path.insert(0, str(Path(__file__).parent))

from sandbox_line import Line

from sandbox.app import serving
from sandbox.settings import read_settings

DATA = Path(__file__).parent / "data"


@pytest.fixture
def letter() -> str:
    """Give the invoice whose third line does not multiply."""
    return (DATA / "letter-4711.txt").read_text(encoding="utf-8")


@pytest.fixture
def thread() -> str:
    """Give the support thread of an unhappy customer."""
    return (DATA / "thread-1093.txt").read_text(encoding="utf-8")


@pytest.fixture
async def url() -> AsyncGenerator[str]:
    """Run a sandbox vendor with default settings."""
    async with serving(read_settings([])) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def control(url: str) -> AsyncGenerator[aiohttp.ClientSession]:
    """Reach the sandbox's own endpoints, and its wire without an SDK."""
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        yield session


@pytest.fixture
async def openai_client(url: str) -> AsyncGenerator[AsyncOpenAI]:
    """Speak to the sandbox with OpenAI's SDK."""
    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.fixture
async def anthropic_client(url: str) -> AsyncGenerator[AsyncAnthropic]:
    """Speak to the sandbox with Anthropic's SDK."""
    async with AsyncAnthropic(
        base_url=url, api_key="any", max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.fixture
def line(control: aiohttp.ClientSession) -> Line:
    """Speak to the sandbox without an SDK."""
    return Line(control)
