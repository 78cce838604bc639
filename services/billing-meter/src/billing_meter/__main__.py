"""Start billing-meter: ``python -m billing_meter``."""

from messaging.imports import kept_for_life

with kept_for_life():
    import uvloop

    from billing_meter.app import run
    from billing_meter.settings import Settings

if __name__ == "__main__":
    # The environment gives the fields.
    uvloop.run(run(Settings()))  # pyright: ignore[reportCallIssue]
