"""Run the sandbox vendor: ``python -m sandbox --port 0 --port-file PATH``."""

import uvloop

from sandbox.app import run
from sandbox.settings import read_settings

if __name__ == "__main__":
    uvloop.run(run(read_settings()))
