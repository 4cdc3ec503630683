"""What plane 0 of bf16 planes loses: how far the coarse weights that drafts compute with lie from the exact ones.

    python benchmarks/plane_loss.py SmolLM2-135M-Instruct.Q4_1.gguf DIR/SmolLM2-135M-Instruct.Q4_1-dithered-0.gguf

Sources as `tidemill convert` takes them. A coarse weight is its code (sign, exponent, 3 bits of mantissa) with nibble
8, the middle of its interval. For each kind of matrix and each source a JSON row on stdout, a table on stderr:
  error       root mean square of the error over that of the weights
  gain        least squares factor from exact to coarse weights; 1: neither too long nor too short
  entropy     of the lower 4 bits of the mantissa that plane 0 leaves out, in bits; 4: they are as good as random
  on grid     weights of a row of 32 in the source's order that share their bits with another one of the 32
  exceptions  weights outside the 16 exponents of their piece, of which plane 0 has the nearest that it can tell
  of error    the part of the mean square error that exceptions make
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from tidemill.storage.codecs.bf16_codes import exponents_of, find_exponent_base, join_weights, split_weights
from tidemill.storage.convert.convert import open_source
from tidemill.storage.convert.tables import tensors_of
from tidemill.storage.convert.tensor_source import TensorSource
from tidemill.storage.errors import StorageError
from tidemill.storage.manifest_rules import expected_tables

PIECE_WEIGHTS = 1 << 20  # of one exponent base, about an extent's
MIDDLE = 0x88  # two nibbles of 8
GRID = 32  # weights of a quantised block
Words = npt.NDArray[np.uint16]


@dataclass
class Sums:
    """Of one kind of matrix, over pieces."""

    weights: int = 0
    exceptions: int = 0
    shared: int = 0
    exact_square: float = 0.0
    error_square: float = 0.0
    exception_square: float = 0.0
    product: float = 0.0
    nibbles: npt.NDArray[np.int64] | int = 0

    def add(self, piece: Words) -> None:
        base = np.full((1, 1), find_exponent_base(exponents_of(piece)))
        split = split_weights(piece, base.astype(np.uint8))
        middles = np.full_like(split.nibbles, MIDDLE)
        coarse = floats(join_weights(split.codes, middles, base.astype(np.uint16))).reshape(piece.shape)
        exact = floats(piece)
        self.weights += piece.size
        self.exceptions += int(np.count_nonzero(split.outside))
        self.shared += count_shared(piece)
        self.exact_square += float(np.square(exact).sum())
        squares = np.square(coarse - exact)
        self.error_square += float(squares.sum())
        self.exception_square += float(squares[split.outside].sum())
        self.product += float((coarse * exact).sum())
        self.nibbles = self.nibbles + np.bincount((piece & 15).reshape(-1), minlength=16)


@dataclass(frozen=True)
class LossRow:
    source: str
    tensor: str
    weights: int
    error: float
    gain: float
    entropy: float
    on_grid: float
    exceptions: float
    error_of_exceptions: float


def measure(source: TensorSource) -> Iterator[LossRow]:
    """A row for each kind of matrix. Raises StorageError, ValueError for a source that isn't bf16."""
    kinds: dict[str, list[str]] = {}
    for role, layer, _ in expected_tables(source.decoder, head_apart=not source.decoder.tied_head):
        for name in tensors_of(source.decoder, role, layer):
            if len(source.shape(name)) == 2:
                kinds.setdefault(name.split(".")[-2], []).append(name)
    for kind, names in kinds.items():
        sums = Sums()
        for name in names:
            for piece in _pieces(source, name):
                sums.add(piece)
        yield _row(source.source.name, kind, sums)


def floats(weights: Words) -> npt.NDArray[np.float64]:
    return (weights.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def count_shared(piece: Words) -> int:
    """Weights [N, E] that some other weight of their block of GRID is equal to, bit for bit."""
    ordered = np.sort(piece[:, : piece.shape[1] // GRID * GRID].reshape(-1, GRID), axis=1)
    equal = ordered[:, 1:] == ordered[:, :-1]
    shared = np.zeros(ordered.shape, np.bool_)
    shared[:, 1:] |= equal
    shared[:, :-1] |= equal
    return int(np.count_nonzero(shared))


def as_table(rows: Sequence[LossRow]) -> Table:
    columns = "source", "tensor", "weights", "error", "gain", "entropy", "on grid", "exceptions", "of error"
    table = Table(*columns, box=None)
    for row in rows:
        figures = f"{row.error:.2%}", f"{row.gain:.4f}", f"{row.entropy:.2f}", f"{row.on_grid:.1%}"
        exceptions = f"{row.exceptions:.2e}", f"{row.error_of_exceptions:.0%}"
        table.add_row(row.source, row.tensor, f"{row.weights / 1e6:.1f} M", *figures, *exceptions)
    return table


def _pieces(source: TensorSource, name: str) -> Iterator[Words]:
    if source.element(name) != "bf16":
        raise ValueError(f"{name} of {source.source.name} is {source.element(name)}, expected bf16")
    count, columns = source.shape(name)
    step = max(1, PIECE_WEIGHTS // columns)
    for start in range(0, count, step):
        yield source.rows(name, start, min(count, start + step)).view(np.uint16)


def _row(source: str, kind: str, sums: Sums) -> LossRow:
    shares = np.asarray(sums.nibbles) / sums.weights
    return LossRow(
        source=source,
        tensor=kind,
        weights=sums.weights,
        error=(sums.error_square / sums.exact_square) ** 0.5,
        gain=sums.product / sums.exact_square,
        entropy=float(-sum(share * np.log2(share) for share in shares if share)),
        on_grid=sums.shared / sums.weights,
        exceptions=sums.exceptions / sums.weights,
        error_of_exceptions=sums.exception_square / sums.error_square,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", help="GGUF files or Hugging Face directories")
    rows: list[LossRow] = []
    try:
        for path in parser.parse_args().sources:
            source = open_source(path)
            for row in measure(source):
                rows.append(row)
                print(json.dumps(asdict(row)), flush=True)
            source.close()
    except (StorageError, ValueError, OSError) as error:
        raise SystemExit(f"plane_loss: {error}") from None
    Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 160).print(as_table(rows))


if __name__ == "__main__":
    main()
