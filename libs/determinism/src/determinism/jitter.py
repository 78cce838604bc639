"""Exponential backoff with full jitter; pure, the draw is an argument."""


def backoff_s(attempt: int, *, first_s: float, cap_s: float, draw: float) -> float:
    """
    Return how long to wait before the next attempt.

    Args:
        attempt: Attempts made so far, from 1.
        first_s: Seconds after the first attempt, before jitter.
        cap_s: The longest wait, before jitter.
        draw: A number from [0, 1); 0 gives half the wait, 1 the whole.

    Source: "equal jitter", Brooker, Exponential Backoff and Jitter (AWS, 2015).
    """
    # The exponent is bounded: 2.0 ** 1024 would overflow a float.
    whole = min(cap_s, first_s * 2.0 ** min(max(attempt, 1) - 1, 62))
    return whole * (0.5 + 0.5 * draw)
