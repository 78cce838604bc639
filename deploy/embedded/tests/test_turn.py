import asyncio
from pathlib import Path

from determinism import SystemClock
from embedded.turn import take_turn


async def test_platforms_start_one_after_the_other(tmp_path: Path) -> None:
    """The second waits until the first has taken its ports, and no longer."""
    path = tmp_path / "lock"
    first = await take_turn(SystemClock(), path)
    async with asyncio.TaskGroup() as group:
        second = group.create_task(take_turn(SystemClock(), path))
        _, waiting = await asyncio.wait({second}, timeout=0.3)
        assert waiting == {second}
        first.close()
    second.result().close()
