"""The flags of lossy modes, shared by verbs, and what is said when one starts."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple, cast, get_args

import typer

from tidemill.actors.compute.selection.operators import OPERATORS, SPARSITY_MAX, THINNED_BY, Operator, PolicyName
from tidemill.actors.compute.selection.spec import Allocation, SelectionSpec, check_selection
from tidemill.runtime.calibration.record import Card

DEFAULT_PRELOAD_SHARE = 0.5


class SelectChoice(StrEnum):
    topk = "topk"
    gate = "gate"
    neuron = "neuron"


class AllocationChoice(StrEnum):
    greedy = "greedy"
    uniform = "uniform"


Sparsity = Annotated[
    float,
    typer.Option(
        "--sparsity",
        envvar="TIDEMILL_SPARSITY",
        min=0.0,
        max=0.9,
        help="LOSSY: the share of weights (topk) or neurons (gate, neuron) that each token leaves out. 0: exact.",
    ),
]
SparsityOrAuto = Annotated[
    str,
    typer.Option(
        "--sparsity",
        envvar="TIDEMILL_SPARSITY",
        help="LOSSY: the share of weights (topk) or neurons (gate, neuron) that each token leaves out. 0: exact. auto: "
        "with --select, by --min-quality, or the least whose active weights fit --ram.",
    ),
]
MinQuality = Annotated[
    float | None,
    typer.Option(
        "--min-quality",
        envvar="TIDEMILL_MIN_QUALITY",
        min=1.0,
        help="LOSSY, with --sparsity auto: how many times the exact perplexity the quality card may show; 1.2, say.",
    ),
]
Select = Annotated[
    SelectChoice | None,
    typer.Option(
        "--select",
        envvar="TIDEMILL_SELECT",
        help="LOSSY: what chooses them. topk: largest inputs; gate: largest gates; neuron: trained predictors.",
    ),
]
Operators = Annotated[
    str,
    typer.Option(
        "--operators", envvar="TIDEMILL_OPERATORS", help="LOSSY: only these of q,k,v,o,gate,up,down (with topk)."
    ),
]
AllocationFlag = Annotated[
    AllocationChoice,
    typer.Option(
        "--allocation",
        envvar="TIDEMILL_ALLOCATION",
        help="LOSSY: how topk spreads its sparsity: by the loss that calibration measured, or all operators alike.",
    ),
]


class ResidencyChoiceFlag(StrEnum):
    lfu = "lfu"
    lru = "lru"
    window = "window"
    hot_set = "hot-set"
    none = "none"


class QuotasChoice(StrEnum):
    adaptive = "adaptive"
    fixed = "fixed"


class PreloadChoice(StrEnum):
    none = "none"
    scaled = "scaled"
    cross_layer = "cross-layer"
    look_ahead = "look-ahead"
    previous_token = "previous-token"
    popularity = "popularity"


Residency = Annotated[
    ResidencyChoiceFlag,
    typer.Option(
        "--residency",
        envvar="TIDEMILL_RESIDENCY",
        help="With --select: which weights stay in DRAM: those that this text used most (lfu), last (lru), or lately "
        "(window), or what other text used most (hot-set).",
    ),
]
Quotas = Annotated[
    QuotasChoice | None,
    typer.Option(
        "--quotas",
        envvar="TIDEMILL_QUOTAS",
        help="With --residency lfu: adaptive (unless told otherwise) moves room in DRAM to the layers that use it most "
        "while a text is decoded; fixed leaves each the same share.",
    ),
]
HotSet = Annotated[
    Path | None,
    typer.Option("--hot-set", envvar="TIDEMILL_HOT_SET", help="With --residency hot-set: a trace of other text."),
]
Preload = Annotated[
    PreloadChoice,
    typer.Option(
        "--preload",
        envvar="TIDEMILL_PRELOAD",
        help="With --select: what is read ahead of the next layers: by this layer's inputs (topk: scaled, "
        "cross-layer), by the next layer's predictor (gate, neuron: look-ahead), by the last token, or by use.",
    ),
]
PreloadShare = Annotated[
    float | None,
    typer.Option(
        "--preload-share", envvar="TIDEMILL_PRELOAD_SHARE", min=0.01, max=1.0,
        help="With --preload: how much is read ahead, of what a layer computes with; 0.5 unless told.",
    ),
]  # fmt: skip


class SelectionFlags(NamedTuple):
    """As given."""

    sparsity: float
    select: str | None
    operators: str
    allocation: str


def parse_selection(flags: SelectionFlags) -> SelectionSpec | None:
    """None for an exact run. Raises typer.BadParameter naming the flag."""
    if flags.select is None:
        if flags.sparsity > 0.0:
            raise typer.BadParameter(f"--sparsity {flags.sparsity} needs --select: {', '.join(get_args(PolicyName))}")
        if flags.operators or flags.allocation != "greedy":
            raise typer.BadParameter("--operators and --allocation need --select topk")
        return None
    if flags.select != "topk" and flags.allocation != "greedy":
        raise typer.BadParameter(f"--allocation {flags.allocation} needs --select topk, got {flags.select}")
    policy = cast(PolicyName, flags.select)
    named = [name.strip() for name in flags.operators.split(",")] if flags.operators else list(OPERATORS)
    unknown = [name for name in named if name not in OPERATORS]
    if unknown:
        raise typer.BadParameter(f"--operators {','.join(unknown)}: accepted are {','.join(OPERATORS)}")
    if policy == "topk" or not flags.operators:
        operators = tuple(operator for operator in OPERATORS if operator in named)
    else:
        operators = tuple(cast(Operator, name) for name in named)
        if set(operators) == set(THINNED_BY[policy]):
            operators = OPERATORS
    try:
        return check_selection(
            SelectionSpec(
                policy=policy,
                sparsity=flags.sparsity,
                operators=operators,
                allocation=cast(Allocation, flags.allocation),
            )
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


AUTO = "auto"


def parse_sparsity(text: str, select: str | None, min_quality: float | None) -> float | None:
    """None: to be searched for. A floor on quality alone asks for that too. Raises typer.BadParameter."""
    if text == AUTO or (min_quality is not None and text == "0"):
        if select is None:
            raise typer.BadParameter(f"--sparsity {AUTO} and --min-quality need --select: {', '.join(SelectChoice)}")
        return None
    if min_quality is not None:
        raise typer.BadParameter(f"--min-quality {min_quality:g} chooses the sparsity: leave out --sparsity {text}")
    try:
        sparsity = float(text)
    except ValueError:
        sparsity = -1.0
    if not 0.0 <= sparsity <= SPARSITY_MAX:
        raise typer.BadParameter(f"--sparsity {text}: accepted are 0 to {SPARSITY_MAX}, and {AUTO}")
    return sparsity


def check_searched(preload: str, arena: str | None) -> None:
    """Nothing may be given that a search chooses, or cannot go by. Raises typer.BadParameter."""
    if preload != "none":
        raise typer.BadParameter(f"--preload {preload} is chosen with --sparsity {AUTO}: leave it out")
    if arena is not None:
        raise typer.BadParameter(f"--sparsity {AUTO} goes by --ram: leave out --arena {arena}, or give a --sparsity")


def parse_preload_share(preload: str, share: float | None) -> float:
    """Raises typer.BadParameter for a share of nothing."""
    if share is not None and preload == "none":
        raise typer.BadParameter(f"--preload-share {share} needs --preload")
    return DEFAULT_PRELOAD_SHARE if share is None else share


def lossy_warning(selection: SelectionSpec, card: Card | None, model: Path) -> str:
    """What a lossy mode says on stderr when it starts: that it is lossy, and the nearest quality that was measured."""
    text = f"LOSSY: {selection.name}; the output differs from the exact model's"
    family = [e for e in card.entries if _family(e.selection) == _family(selection.name)] if card else []
    if card is None or not family:
        return f"{text}. No quality was measured for it: tidemill eval -m {model} --text FILE"
    nearest = min(family, key=lambda entry: abs(entry.sparsity - selection.sparsity))
    return (
        f"{text}. Measured at {nearest.selection}: perplexity {nearest.perplexity:.2f} (exact "
        f"{card.exact_perplexity:.2f}), KL {nearest.kl:.3f}, same greedy token {nearest.agreement:.0%}, on {card.text}"
    )


def _family(name: str) -> str:
    """A selection's name without its sparsity."""
    return " ".join(word for word in name.split(" ") if not word.endswith("%"))
