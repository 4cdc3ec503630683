"""What a campaign is asked for."""

from dataclasses import dataclass
from pathlib import Path

from tidemill.runtime.stress.soak.event import KINDS, Kind

TOKENS_LEAST = 8  # the first tenth and the last third of a request are not empty then


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakSettings:
    """`model_name` is the model as it was asked for. `only`: this one event and no other. `deadline_s`: of every wait
    for a process."""

    model: Path
    model_name: str
    seed: int
    runtime_s: float
    tokens: int
    deadline_s: float
    directory: Path
    kinds: tuple[Kind, ...] = KINDS
    only: int | None = None


def check_settings(settings: SoakSettings) -> SoakSettings:
    """Raises ValueError that names the option and what is accepted."""
    checks = [
        ("runtime", settings.runtime_s, settings.runtime_s > 0, "more than 0"),
        ("tokens", settings.tokens, settings.tokens >= TOKENS_LEAST, f"{TOKENS_LEAST} or more"),
        ("deadline", settings.deadline_s, settings.deadline_s >= 15, "15 s or more: a full link is waited for 10 s"),
        ("kinds", ",".join(settings.kinds), settings.kinds and set(settings.kinds) <= set(KINDS), ", ".join(KINDS)),
        ("event", settings.only, settings.only is None or settings.only >= 0, "0 or more"),
    ]
    for name, value, ok, accepted in checks:
        if not ok:
            raise ValueError(f"--{name} is {value}, accepted: {accepted}")
    return settings
