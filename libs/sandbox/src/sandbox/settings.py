"""The command line: read once, bounded, frozen."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """How to run one sandbox vendor; ``port`` 0 takes a free one."""

    host: str
    port: int
    port_file: Path | None
    key: str | None
    ledger: Path | None
    latency_ms: float
    token_ms: float
    requests_per_minute: int
    tokens_per_minute: int
    cache: bool


def read_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Parse the command line; a bad one ends the process with usage."""
    parser = argparse.ArgumentParser(prog="sandbox", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 takes a free one")
    add("--port-file", type=Path, help="the chosen port is written here")
    add("--key", help="the only API key let in; default: any non-empty one")
    add("--ledger", type=Path, help="JSON lines that keep the ledger over restarts")
    add("--latency-ms", type=float, default=0.0, help="before the first token")
    add("--token-ms", type=float, default=0.0, help="per token")
    add("--requests-per-minute", type=int, default=10_000_000)
    add("--tokens-per-minute", type=int, default=10_000_000_000)
    add("--cache", action="store_true", help="account for cached prompt prefixes")
    return Settings(**vars(parser.parse_args(arguments)))
