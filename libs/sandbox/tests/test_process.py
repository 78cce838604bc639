"""The sandbox as a process: port file, health, a clean end."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp


async def test_the_process_tells_its_port_and_stops_on_sigterm(tmp_path: Path) -> None:
    """Started with port 0 it serves where it says, and SIGTERM ends it with 0."""
    port_file = tmp_path / "port"
    ledger = tmp_path / "ledger.jsonl"
    arguments = ["--port", "0", "--port-file", str(port_file), "--ledger", str(ledger)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sandbox",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
            while not port_file.exists():
                await asyncio.to_thread(port_file.exists)
        port = int(port_file.read_text(encoding="utf-8"))
        assert f":{port}" in line
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/health") as response,
        ):
            assert (await response.json())["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
