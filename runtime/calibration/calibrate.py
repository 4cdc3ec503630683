"""Calibrates a model on a text: thresholds, neuron predictors, the greedy allocation, and a card of their quality.

The text is cut in three: most of it is recorded, the next part tries what came of it, and the last, which nothing was
fitted on, gives the card. It runs in one process with the compute actor, so that activations go nowhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tidemill.actors.compute.selection.operators import OPERATORS, OPERATORS_OF, InputKind, operator_weights
from tidemill.actors.compute.selection.policy import SelectionPolicy
from tidemill.actors.compute.selection.spec import SelectionSpec
from tidemill.actors.compute.selection.tap import ActivationTap
from tidemill.actors.compute.selection.topk import KINDS, TopKSelection
from tidemill.actors.low_rank import LowRankPredictor
from tidemill.runtime.calibration.allocation import LossCurve, allocate
from tidemill.runtime.calibration.calibration_file import model_identity, save_calibration
from tidemill.runtime.calibration.low_rank_fit import RIDGE
from tidemill.runtime.calibration.magnitudes import at_level
from tidemill.runtime.calibration.predictor_check import PredictorCheck
from tidemill.runtime.calibration.record import (
    CALIBRATION_FORMAT,
    Allotment,
    CalibrationRecord,
    Card,
    CardEntry,
    PredictorQuality,
    TextUsed,
)
from tidemill.runtime.calibration.recorder import ActivationRecorder, recorder_bytes
from tidemill.runtime.engine import Engine
from tidemill.runtime.lab import Lab
from tidemill.runtime.options import EngineOptions
from tidemill.runtime.quality.scores import Quality, ScoreSums
from tidemill.runtime.quality.windows import WindowProgress, cut_windows, evaluate_windows
from tidemill.storage.decoder_spec import DecoderSpec
from tidemill.storage.manifest_file import load_manifest

F32 = npt.NDArray[np.float32]
Windows = Sequence[Sequence[int]]

TRAINING_BYTES = 512 << 20  # most that predictors are fitted from at a time; more layers take more passes over the text
CURVE_SPARSITIES = (0.25, 0.5, 0.65, 0.8, 0.9)
CARD_SPARSITIES = (0.3, 0.5, 0.7)
RECORDED_SHARE = 0.75  # of the text
CURVE_TOKENS = 1024  # of the part that tries things: each costs as many passes as there are inputs and sparsities


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRequest:
    """`options` are in-process, with a window. `rank` 0 trains no predictors."""

    options: EngineOptions
    text: TextUsed
    token_ids: Sequence[int]
    rank: int
    card_tokens: int  # 0: no card
    seed: int


class Calibrator:
    """Iterate `run` for progress; `record` is what it saved."""

    def __init__(self, request: CalibrationRequest) -> None:
        self._request = request
        self._spec: DecoderSpec = load_manifest(request.options.model).decoder
        windows = cut_windows(request.token_ids, request.options.window)
        card_windows = min(-(-request.card_tokens // request.options.window), len(windows) // 4)
        rest = len(windows) - card_windows
        recorded = max(1, int(rest * RECORDED_SHARE))
        if rest - recorded < 1:
            raise ValueError(
                f"the text gives {len(windows)} windows of {request.options.window} tokens, at least 2 are needed: "
                "give a longer text or a shorter window (-c)"
            )
        self._recorded, self._tried = windows[:recorded], windows[recorded:rest]
        self._unseen = windows[rest:]
        self._arrays: dict[str, F32] = {}
        self._predictor_qualities: tuple[PredictorQuality, ...] = ()
        self._allocation: tuple[Allotment, ...] = ()
        self.record: CalibrationRecord | None = None

    def run(self) -> Iterator[WindowProgress]:
        """Raises CeilingTooSmallError, StorageError, StepFailedError, OSError; saves nothing before it is whole."""
        yield from self._record_and_train()
        yield from self._measure_curves()
        self._save(None)
        if self._unseen:
            yield from self._measure_card()

    # --- what is recorded

    def _record_and_train(self) -> Iterator[WindowProgress]:
        spec, rank = self._spec, self._request.rank
        per_layer = recorder_bytes(spec, range(1)) - recorder_bytes(spec, range(0))
        at_once = max(1, TRAINING_BYTES // per_layer) if rank else spec.layer_count
        predictors: list[LowRankPredictor] = []
        for first in range(0, spec.layer_count, at_once):
            trained = range(first, min(first + at_once, spec.layer_count) if rank else first)
            recorder = ActivationRecorder(spec, trained)
            yield from self._pass(self._recorded, "recording", recorder, recorder_bytes(spec, trained))
            self._arrays |= recorder.quantiles()
            predictors += [recorder.moments[layer].fit(rank, RIDGE) for layer in trained]
        if rank:
            yield from self._check(predictors)

    def _check(self, predictors: Sequence[LowRankPredictor]) -> Iterator[WindowProgress]:
        check = PredictorCheck(predictors, self._request.seed)
        held = sum(predictor.nbytes for predictor in predictors)
        yield from self._pass(self._tried, "trying predictors", check, held)
        self._predictor_qualities = check.qualities(at_level(self._arrays["quantiles.down"], 0.5))
        self._arrays["neuron.scores"] = check.score_quantiles()
        for name in ("inward", "outward", "bias"):
            self._arrays[f"neuron.{name}"] = np.stack([getattr(predictor, name) for predictor in predictors])

    def _pass(self, windows: Windows, what: str, tap: ActivationTap, tap_bytes: int) -> Iterator[WindowProgress]:
        with Engine.open(self._request.options, lab=Lab(policies=(), tap=tap, bytes=tap_bytes)) as engine:
            yield from evaluate_windows(engine, windows, ScoreSums(self._spec, 1), what)

    # --- what thinning costs

    def _measure_curves(self) -> Iterator[WindowProgress]:
        policies = [self._thinned(kind, sparsity) for kind in KINDS for sparsity in CURVE_SPARSITIES]
        windows = self._tried[: max(1, CURVE_TOKENS // self._request.options.window)]
        sums = ScoreSums(self._spec, 1 + len(policies))
        with Engine.open(self._request.options, lab=Lab(policies=policies, tap=None, bytes=0)) as engine:
            yield from evaluate_windows(engine, windows, sums, "measuring operators")
        losses = iter([quality.kl for quality in sums.qualities()[1:]])
        curves: dict[InputKind, LossCurve] = {
            kind: LossCurve(CURVE_SPARSITIES, tuple(next(losses) for _ in CURVE_SPARSITIES)) for kind in KINDS
        }
        self._allocation = allocate(curves, self._weights())

    def _thinned(self, kind: InputKind, sparsity: float) -> SelectionPolicy:
        """One input alone."""
        thresholds = {
            operator: at_level(self._arrays[f"quantiles.{at}"], sparsity)
            for at in KINDS
            for operator in OPERATORS_OF[at]
        }
        return TopKSelection(thresholds, OPERATORS_OF[kind])

    def _weights(self) -> Mapping[InputKind, int]:
        spec = self._spec
        sizes = spec.hidden_size, spec.q_size, spec.kv_size, spec.ff_size
        return {kind: sum(operator_weights(operator, *sizes) for operator in OPERATORS_OF[kind]) for kind in KINDS}

    # --- what is kept

    def _save(self, card: Card | None) -> None:
        request = self._request
        self.record = CalibrationRecord(
            format=CALIBRATION_FORMAT,
            model=model_identity(load_manifest(request.options.model)),
            text=request.text,
            arrays={},
            allocation=self._allocation,
            rank=request.rank,
            predictors=self._predictor_qualities,
            card=card,
        )
        save_calibration(request.options.model, self.record, self._arrays)

    def _measure_card(self) -> Iterator[WindowProgress]:
        selections = card_selections(with_predictors=self._request.rank > 0)
        options = replace(self._request.options, selections=selections)
        sums = ScoreSums(self._spec, 1 + len(selections))
        with Engine.open(options) as engine:
            yield from evaluate_windows(engine, self._unseen, sums, "measuring quality")
        exact, *thinned = sums.qualities()
        entries = tuple(_entry(selection, quality) for selection, quality in zip(selections, thinned, strict=True))
        text = f"the last {sum(map(len, self._unseen))} tokens of {self._request.text.name}"
        self._save(Card(text, exact.positions, exact.perplexity, entries))


def card_selections(*, with_predictors: bool) -> tuple[SelectionSpec, ...]:
    """What a card is measured for: every policy at a few sparsities."""
    kinds = [("topk", "greedy"), ("topk", "uniform"), ("gate", "greedy")]
    kinds += [("neuron", "greedy")] if with_predictors else []
    return tuple(
        SelectionSpec(policy=policy, sparsity=sparsity, operators=OPERATORS, allocation=allocation)  # type: ignore[arg-type]
        for policy, allocation in kinds
        for sparsity in CARD_SPARSITIES
    )


def _entry(selection: SelectionSpec, quality: Quality) -> CardEntry:
    return CardEntry(
        selection=selection.name,
        sparsity=selection.sparsity,
        weights_computed=quality.weights_computed,
        perplexity=quality.perplexity,
        kl=quality.kl,
        agreement=quality.agreement,
    )
