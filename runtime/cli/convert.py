"""The verb `convert`: from flags to a conversion, with its progress and what is said at the end."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tidemill.runtime.cli.models import tell_written
from tidemill.runtime.cli.progress import BytesProgress
from tidemill.storage.manifest import ModelLayout

if TYPE_CHECKING:  # imports pyarrow
    from tidemill.storage.convert.neuron_order import NeuronOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertFlags:
    """`order`: a file of orders or a trace, from which they are made by `order_by`."""

    source: Path
    destination: Path
    codec: str
    layout: ModelLayout
    group: int
    order: Path | None
    order_by: Literal["frequency", "coactivation"]
    verify: bool
    device: str = "drive"


def convert_command(given: ConvertFlags) -> None:
    """Raises StorageError, ValueError."""
    from tidemill.storage.convert.convert import convert_model, verify_conversion
    from tidemill.storage.convert.tables import LayoutChoice
    from tidemill.storage.devices.emulated.disk_space import DiskSpace
    from tidemill.storage.devices.emulated.spec import parse_device

    space = DiskSpace.of(parse_device(given.device))
    neuron_order = None if given.order is None else _read_order(given, given.order)
    with BytesProgress(f"converting {given.source.name}") as progress:
        manifest = convert_model(
            given.source,
            given.destination,
            codec=given.codec,
            choice=LayoutChoice(given.layout, given.group),
            neuron_order=neuron_order,
            on_progress=progress.update,
            take_space=space.take,
        )
    if given.verify:
        with BytesProgress("verifying") as progress:
            verify_conversion(given.source, given.destination, on_progress=progress.update)
    tell_written(given.destination, manifest, "converted and verified" if given.verify else "converted")


def _read_order(given: ConvertFlags, order: Path) -> "NeuronOrder":
    from tidemill.storage.convert.convert import open_source
    from tidemill.storage.convert.neuron_order import load_orders
    from tidemill.storage.convert.trace_order import is_trace, orders_from_trace

    tensors = open_source(given.source)
    spec = tensors.decoder
    tensors.close()
    if is_trace(order):
        counts = {"layer_count": spec.layer_count, "neuron_count": spec.ff_size}
        return orders_from_trace(order, given.order_by, **counts).get
    return load_orders(order, layer_count=spec.layer_count, neuron_count=spec.ff_size)
