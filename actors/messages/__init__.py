"""Every message between actors: a module for each that speaks, a union for each link. Commands are imperative,
facts are in the past tense.

Lists of ids travel as packed little-endian arrays in `bytes` (`packing.py`). No message carries weights.
"""

from tidemill.actors.messages.arena import (
    BundlesPlaced,
    BundlesReady,
    BundlesUnavailable,
    CancelReads,
    GatherBundles,
    PromoteReads,
    Read,
    ReadBundles,
    RowsReady,
)
from tidemill.actors.messages.compute import (
    BundlesReleased,
    ChannelsSelected,
    DemandRows,
    InputSeen,
    LayerEntered,
    SequenceOpened,
    StepAbandoned,
    StepCancelled,
    StepFailed,
    StepProgressed,
    TokensSampled,
    VisitBundles,
    VisitEnded,
    WindowEvaluated,
)
from tidemill.actors.messages.engine import CancelStep, EvaluateWindow, OpenSequence, RunStep, Sampling
from tidemill.actors.messages.message import ActorName
from tidemill.actors.messages.predictor import PreloadBundles, WantBundles
from tidemill.actors.messages.reader import BundlesRead, ReadFailed, ReadsCancelled

EngineToCompute = OpenSequence | RunStep | CancelStep | EvaluateWindow
ComputeToEngine = TokensSampled | StepProgressed | StepCancelled | StepFailed | WindowEvaluated | ChannelsSelected
ComputeToPredictor = LayerEntered | InputSeen | StepAbandoned
PredictorToArena = WantBundles | PreloadBundles
ComputeToArena = BundlesReleased | DemandRows | VisitBundles | VisitEnded | SequenceOpened
ArenaToCompute = BundlesReady | RowsReady | BundlesPlaced | BundlesUnavailable
ArenaToReader = ReadBundles | GatherBundles | CancelReads | PromoteReads
ReaderToArena = BundlesRead | ReadsCancelled | ReadFailed

Message = (
    EngineToCompute
    | ComputeToEngine
    | ComputeToPredictor
    | PredictorToArena
    | ComputeToArena
    | ArenaToCompute
    | ArenaToReader
    | ReaderToArena
)

__all__ = [
    "ActorName",
    "ArenaToCompute",
    "ArenaToReader",
    "BundlesPlaced",
    "BundlesRead",
    "BundlesReady",
    "BundlesReleased",
    "BundlesUnavailable",
    "CancelReads",
    "CancelStep",
    "ChannelsSelected",
    "ComputeToArena",
    "ComputeToEngine",
    "ComputeToPredictor",
    "DemandRows",
    "EngineToCompute",
    "EvaluateWindow",
    "GatherBundles",
    "InputSeen",
    "LayerEntered",
    "Message",
    "OpenSequence",
    "PredictorToArena",
    "PreloadBundles",
    "PromoteReads",
    "Read",
    "ReadBundles",
    "ReadFailed",
    "ReaderToArena",
    "ReadsCancelled",
    "RowsReady",
    "RunStep",
    "Sampling",
    "SequenceOpened",
    "StepAbandoned",
    "StepCancelled",
    "StepFailed",
    "StepProgressed",
    "TokensSampled",
    "VisitBundles",
    "VisitEnded",
    "WantBundles",
    "WindowEvaluated",
]
