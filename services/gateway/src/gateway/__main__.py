"""Start the gateway: ``python -m gateway``."""

from messaging.imports import kept_for_life

with kept_for_life():
    import uvloop

    from gateway.app import run
    from gateway.settings import Settings

if __name__ == "__main__":
    # The environment gives the fields.
    uvloop.run(run(Settings()))  # pyright: ignore[reportCallIssue]
