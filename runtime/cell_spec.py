"""Everything that the actors of one cell are started with; each host takes its own part."""

import msgspec

from tidemill.actors.arena.config import ArenaConfig
from tidemill.actors.compute.config import ComputeConfig
from tidemill.actors.predictor.config import PredictorConfig
from tidemill.actors.reader.config import ReaderConfig
from tidemill.runtime.region import RegionRef
from tidemill.runtime.stress.pipeline.consumer import ConsumerSpec
from tidemill.storage.devices.device import LoadMode
from tidemill.storage.devices.emulated.spec import Emulation


class CellSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model_directory: str
    load_mode: LoadMode
    io_depth: int
    device: Emulation | None = None  # None: the drive as it is
    predictor: PredictorConfig
    arena: ArenaConfig
    reader: ReaderConfig
    compute: ComputeConfig
    consumer: ConsumerSpec | None = None  # compute takes its time and computes nothing


class CellRegions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the shared memory of a cell is. `links` in the order of `actors.wiring.LINKS`."""

    arena: RegionRef
    counters: RegionRef
    links: tuple[RegionRef, ...]
