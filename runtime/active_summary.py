"""The figures of a run over bundles that come one by one: what it computed with, where that lay, how it was read.
Pure arithmetic; what was not measured is None."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tidemill.runtime.events import TokenGenerated
from tidemill.runtime.report import BundleReport


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveSummary:
    """Shares are of the bundles that decoded tokens computed with; `hit_rate`, `preloaded_share` and
    `on_demand_share` add up to 1. Figures per token are medians over the tokens after the first, the two ratios are of
    their sums; requests and bytes are those that single bundles took, preloads and what lay between included."""

    computed_share: Mapping[str, float] | None  # of each operator's weights, of decoded tokens
    computed_weight_share: float | None  # of all operators' together
    hit_rate: float | None  # cached when they were asked for
    preloaded_share: float | None  # read, or being read, before
    on_demand_share: float | None
    wasted_share: float | None  # read before and not used, beside those that were used
    requests_per_token: float | None
    read_bytes_per_token: float | None
    useful_bytes_per_token: float | None
    useful_ratio: float | None  # useful bytes ÷ bytes read
    mean_run_bytes: float | None  # of one request


def summarise_active(bundles: BundleReport, later: Sequence[TokenGenerated]) -> ActiveSummary:
    """`later`: the tokens after the first."""
    gathers = [token.gathers for token in later]
    reads, read_bytes = sum(g.reads for g in gathers), sum(g.read_bytes for g in gathers)
    useful_bytes = sum(g.useful_bytes for g in gathers)
    return ActiveSummary(
        computed_share=bundles.computed_share,
        computed_weight_share=bundles.computed_weight_share,
        hit_rate=_ratio(bundles.hits, bundles.used),
        preloaded_share=_ratio(bundles.preload_hits, bundles.used),
        on_demand_share=_ratio(bundles.demanded, bundles.used),
        wasted_share=_ratio(bundles.wasted, bundles.used),
        requests_per_token=median([g.reads for g in gathers]) if gathers else None,
        read_bytes_per_token=median([g.read_bytes for g in gathers]) if gathers else None,
        useful_bytes_per_token=median([g.useful_bytes for g in gathers]) if gathers else None,
        useful_ratio=_ratio(useful_bytes, read_bytes),
        mean_run_bytes=_ratio(read_bytes, reads),
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
