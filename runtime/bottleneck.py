"""What bounds the time of a token, in one line."""

from dataclasses import dataclass

SATURATED_RATIO = 0.9  # of the time with reads under way: the drive is the bound
BOUND_RATIO = 0.5  # a cause that takes more than this share of the time is the bottleneck


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTime:
    """Of one decoded token, in seconds. None: fewer than two tokens were generated."""

    decode_s: float | None
    stall_s: float | None
    round_trip_s: float | None  # of the stall: with no read under way
    compute_s: float | None
    management_s: float | None
    flash_busy_ratio: float


def name_bottleneck(time: TokenTime) -> str:
    """A drive that never rests bounds the time, however much of it computing happens to overlap. A stall is the
    drive's only as far as reads were under way: the rest is messages to the arena and back."""
    decode_s, stall_s, round_trip_s = time.decode_s, time.stall_s, time.round_trip_s
    compute_s, management_s = time.compute_s, time.management_s
    if not decode_s or stall_s is None or round_trip_s is None or compute_s is None or management_s is None:
        return "not measured: fewer than two tokens"
    if time.flash_busy_ratio > SATURATED_RATIO:
        waiting = f"{stall_s / decode_s:.0%} is spent waiting for them"
        return f"flash: reads are under way {min(time.flash_busy_ratio, 1.0):.0%} of decode time, {waiting}"
    shares = {
        "flash: {} of decode time waits for weights to be read": (stall_s - round_trip_s) / decode_s,
        "round trips: {} of decode time waits for the arena's answers, with no read under way": round_trip_s / decode_s,
        "compute: {} of decode time is spent in kernels": compute_s / decode_s,
        "management: {} of decode time goes to messages, sampling and text": management_s / decode_s,
    }
    text, share = max(shares.items(), key=lambda item: item[1])
    hint = "" if share > BOUND_RATIO else " (no cause dominates)"
    return text.format(f"{share:.0%}") + hint
