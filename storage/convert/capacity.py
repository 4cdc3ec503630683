"""How many exceptions the bundles of a table have: a pass over the rows of its source tensors before any is written.

Exponents are counted per bundle, by rows or by columns of the tensors, so nothing is gathered, and whatever order the
bundles are stored in makes no difference.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from tidemill.storage.codecs.bf16_bundles import bf16_bundle_bytes
from tidemill.storage.codecs.bf16_codes import EXPONENTS, Words, exponents_of, find_exponent_bases
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.convert.tables import tensors_of
from tidemill.storage.convert.tensor_source import TensorSource
from tidemill.storage.manifest import Plane, Table

ROWS_BYTES = 4 << 20  # of a tensor held at once
COLUMNS = 256  # counted at once
KINDS = 512  # 256 exponents, of weights with a mantissa and then of those without: zeros and powers of two

Counts = npt.NDArray[np.int64]


def needs_measuring(table: Table) -> bool:
    return table.planes[0].codec == "bf16-bundles"


def fit_tables(source: TensorSource, tables: Sequence[Table], on_bytes: Callable[[int], None]) -> list[Table]:
    """Tables whose bundles have room for the exceptions that there are; stored raw where that is not smaller.
    `on_bytes` is told the source bytes that were looked at."""
    return [_fit(source, table, on_bytes) if needs_measuring(table) else table for table in tables]


def count_exceptions(counts: Counts) -> Counts:
    """Of weights counted [N, KINDS]: how many of each N codes of the best base cannot express, [N]."""
    totals = counts[:, :256] + counts[:, 256:]
    bases = find_exponent_bases(totals)
    window = bases[:, None] + np.arange(EXPONENTS)
    outside: Counts = totals.sum(axis=1) - np.take_along_axis(totals, window, axis=1).sum(axis=1)
    outside -= np.where(bases > 0, counts[:, 256], 0)  # zeros have a code with any base,
    powers = np.take_along_axis(counts[:, 256:], bases[:, None], axis=1)[:, 0]
    outside += np.where(bases > 0, powers, 0)  # which this power of two would have otherwise
    return outside


def _fit(source: TensorSource, table: Table, on_bytes: Callable[[int], None]) -> Table:
    most, kinds = 0, _kinds()
    for layer in range(table.layer, table.layer + table.layers):
        counts = np.zeros((table.channel_count, KINDS), np.int64)
        names = tensors_of(source.decoder, table.role, layer)
        for name in names:
            is_row = table.layout == "neuron" and name != names[-1]
            rows, columns = source.shape(name)
            step = max(1, ROWS_BYTES // (columns * table.bundle_bytes // table.bundle_elements))
            for start in range(0, rows, step):
                weights = source.rows(name, start, min(rows, start + step)).view(np.uint16)
                if is_row:
                    _count(weights.T, kinds, counts[start : start + step])
                else:
                    _count(weights, kinds, counts)
                on_bytes(weights.nbytes)
        most = max(most, int(count_exceptions(counts).max()))
    size = bf16_bundle_bytes(table.segments, most)
    (raw,) = get_codec("raw-bundles").plane_bytes(table.element, table.bundle_bytes)
    plane = Plane("bf16-bundles", size) if size < raw else Plane("raw-bundles", raw)
    return msgspec.structs.replace(table, planes=(plane,))


def _count(weights: Words, kinds: Counts, counts: Counts) -> None:
    """Add weights [E, N] to counts [N, KINDS]."""
    for first in range(0, weights.shape[1], COLUMNS):
        places = kinds[weights[:, first : first + COLUMNS]]
        columns = places.shape[1]
        places += np.arange(columns) * KINDS
        found = np.bincount(places.reshape(-1), minlength=columns * KINDS)
        counts[first : first + columns] += found.reshape(columns, KINDS)


def _kinds() -> Counts:
    """Of each bit pattern, [65536]."""
    patterns = np.arange(1 << 16, dtype=np.uint16)
    kinds: Counts = exponents_of(patterns) + np.int64(256) * ((patterns & 0x7F) == 0)
    return kinds
