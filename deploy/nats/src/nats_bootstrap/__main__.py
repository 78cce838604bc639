"""``python -m nats_bootstrap`` reconciles; ``… render FOLDER`` sets up."""

import sys

from messaging.imports import kept_for_life

with kept_for_life():
    import uvloop

    from determinism import SystemIds
    from nats_bootstrap import app
    from nats_bootstrap.settings import Settings
    from nats_bootstrap.setup import set_up

if sys.argv[1:2] == ["render"]:
    sys.stdout.write(f"{set_up(sys.argv[2:], SystemIds())}\n")
else:
    uvloop.run(app.run(Settings()))  # pyright: ignore[reportCallIssue] -- environment
