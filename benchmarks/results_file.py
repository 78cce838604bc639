"""A result kept with its date and machine."""

import os
import platform as machine
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from determinism import SystemClock

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results"


def keep(name: str, title: str, lines: Sequence[str]) -> Path:
    """Write a result with its date and machine."""
    now = SystemClock().now()
    memory_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    ran_on = (
        f"{os.cpu_count()} cores, {memory_mib} MiB, {machine.system()} "
        f"{machine.release()}, Python {machine.python_version()}; everything on that "
        "machine."
    )
    text = [f"# {title} {now:%Y-%m-%d %H:%M} UTC", "", ran_on, "", *lines]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{now:%Y-%m-%d}.md"
    path.write_text("\n".join(text) + "\n")
    print("\n".join(lines))
    print(f"kept in {path.relative_to(HERE.parent)}")
    return path
