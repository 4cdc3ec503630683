"""What a predictor job is described by, and what it finds out."""

from collections.abc import Mapping

import msgspec

from tidemill.actors.predictor.config import PRELOAD_KINDS, PreloadKind
from tidemill.runtime.stress.latency_stats import LatencyStats

# What the actor predicts by itself: for look-ahead compute foresees, and the actor passes on.
POLICY_NAMES: tuple[PreloadKind, ...] = tuple(kind for kind in PRELOAD_KINDS if kind not in ("none", "look-ahead"))


class PredictorJob(msgspec.Struct, frozen=True, kw_only=True, tag=6):
    """Every policy, one after the other. Inputs are drawn (inputs.py), unless a `trace` says what was selected, and
    `activations` what the inputs were. `share`: of the channels that an input is computed with, how many are named of
    each later one. `group`: layers to a table, of inputs that read the residual stream."""

    name: str
    policies: tuple[PreloadKind, ...]
    share: float = 1.0
    group: int = 1
    trace: str | None = None
    activations: str | None = None
    layers: int = 16
    channels: int = 1024
    neurons: int = 4096
    active: float = 0.3
    tokens: int = 24
    runtime_s: float | None = None  # of each policy: token after token goes on from the first again
    seed: int = 0


class PredictorFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Bundles are counted per visit, behind the first layer group. recall: of what is used, how much was named before;
    precision: of what was named, how much is used; chance: the recall of as many drawn blindly. `input_ns`: of the
    actor's processor time, per input that it is told of; `seen_ns`: of each."""

    policy: str
    tokens: int
    inputs: int
    used: int
    named: int
    recall: float
    precision: float
    chance: float
    recall_by_input: Mapping[str, float]
    input_ns: float
    inputs_per_s: float
    token_ms: float
    named_per_s: float
    seen_ns: LatencyStats

    def without_bins(self) -> "PredictorFigures":
        return msgspec.structs.replace(self, seen_ns=self.seen_ns.without_bins())


def check_job(job: PredictorJob) -> PredictorJob:
    """Raises ValueError that names the option and what is accepted."""
    unknown = sorted(set(job.policies) - set(POLICY_NAMES))
    checks = [
        ("policies", ", ".join(unknown), not unknown and job.policies, ", ".join(POLICY_NAMES)),
        ("share", job.share, 0 < job.share <= 4, "more than 0, at most 4"),
        ("group", job.group, 1 <= job.group <= 64, "1 to 64"),
        ("layers", job.layers, 2 <= job.layers <= 1024, "2 to 1024"),
        ("channels", job.channels, 16 <= job.channels <= 1 << 17, f"16 to {1 << 17}"),
        ("neurons", job.neurons, 16 <= job.neurons <= 1 << 17, f"16 to {1 << 17}"),
        ("active", job.active, 0 < job.active < 1, "more than 0, less than 1"),
        ("tokens", job.tokens, 2 <= job.tokens <= 4096, "2 to 4096"),
    ]
    for name, value, ok, accepted in checks:
        if not ok:
            raise ValueError(f"--{name} is {value or 'nothing'}, accepted: {accepted}")
    if job.activations is not None and job.trace is None:
        raise ValueError("--activations are of the run that --trace recorded: give both")
    if "scaled" in job.policies and job.trace is not None and job.activations is None:
        raise ValueError("scaled weighs magnitudes: give --activations with the trace, or leave it out of --policies")
    return job
