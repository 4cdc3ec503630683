"""What `tidemill calibrate` keeps about one model beside its arrays: where it comes from, and how good it is."""

import msgspec

from tidemill.actors.compute.selection.operators import Operator

CALIBRATION_FORMAT = 1
CALIBRATION_FILE = "calibration.safetensors"


class TextUsed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    digest: str  # xxh3_64 of its bytes
    tokens: int


class Allotment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sparsity of every operator for one sparsity of them all."""

    sparsity: float
    operators: dict[Operator, float]


class PredictorQuality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one layer's neuron predictor, on text that it was not trained on, at a sparsity of one half: of the neurons
    that matter (the larger half of |act(gate)·up|) the share that is chosen, the other way round, and of the largest
    tenth."""

    recall: float
    precision: float
    recall_of_largest: float


class CardEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Quality of one selection, measured on text that nothing was calibrated on."""

    selection: str
    sparsity: float
    weights_computed: float  # share of the layers' weights
    perplexity: float
    kl: float  # nats per token, to the exact model
    agreement: float  # share of positions whose likeliest token is the exact model's


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    tokens: int
    exact_perplexity: float
    entries: tuple[CardEntry, ...]


class CalibrationRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: int
    model: str  # calibration_file.model_identity
    text: TextUsed
    arrays: dict[str, str]  # name -> digest of its bytes
    allocation: tuple[Allotment, ...]  # greedy, by rising sparsity; empty where none was measured
    rank: int  # of the neuron predictors; 0: none were trained
    predictors: tuple[PredictorQuality, ...]  # per layer
    card: Card | None
