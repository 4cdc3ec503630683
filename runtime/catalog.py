"""The models that are on this machine: names under the cache directory, or any path."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.runtime.environment import cache_directory
from tidemill.storage.codecs.bf16_bundles import capacity_of
from tidemill.storage.codecs.bf16_codes import EXCEPTION_BYTES
from tidemill.storage.codecs.registry import get_codec
from tidemill.storage.errors import StorageError
from tidemill.storage.ids import TableId
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import MANIFEST_FILE, load_manifest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")  # a name of the models directory; `@` parts a revision


class UnknownModelError(ValueError):
    """No model of that name or path."""


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """`problem` is what keeps a model from being opened, or None."""

    name: str
    path: str
    bytes: int
    family: str | None
    source: str | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableGroup:
    """All tables of one role that are stored alike."""

    role: str
    layout: str
    element: str
    codec: str
    tables: int
    bundles: int
    bundle_bytes: int
    decoded_bytes: int
    stored_bytes_per_plane: tuple[int, ...]
    bits_per_weight: float  # on flash
    layers: int  # of a table, at most
    exceptions: int | None  # weights that codes cannot express; None without such codes
    capacity: int | None  # exceptions that a self-contained bundle has room for, at most; None for other tables


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What `tidemill info` shows. `bytes_per_token`: decoded bytes that one dense step computes with;
    `stored_bytes_per_token`: what they take on flash."""

    path: str
    family: str
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    ff_size: int
    vocab_size: int
    max_context: int
    tied_head: bool
    layout: str
    group: int
    parameters: int
    source: str
    note: str
    shards: int
    extents: int
    decoded_bytes: int
    stored_bytes: int
    bytes_per_token: int
    stored_bytes_per_token: int
    tables: tuple[TableGroup, ...]


def models_directory() -> Path:
    return cache_directory() / "models"


def catalog_name(name: str, revision: str | None = None) -> str:
    """The directory's name of a model that is called `org/name` on the Hugging Face Hub."""
    return "@".join(part.replace("/", "--") for part in (name, revision) if part)


def resolve_model(model: str | Path) -> Path:
    """The directory of a model given by path, name or Hub id. Raises UnknownModelError that lists what there is."""
    path, name = Path(model), catalog_name(str(model))
    if (path / MANIFEST_FILE).is_file():
        return path
    named = models_directory() / name if NAME.fullmatch(name) else None
    if named is not None and (named / MANIFEST_FILE).is_file():
        return named
    if path.is_dir():
        raise UnknownModelError(
            f"{path} is not a converted model (no {MANIFEST_FILE}); convert it: tidemill convert {path} DST"
        )
    known = ", ".join(summary.name for summary in list_models()) or "none yet"
    raise UnknownModelError(f"there is no model {str(model)!r}; on this machine: {known}. Get one: tidemill pull NAME")


def list_models() -> list[ModelSummary]:
    root = models_directory()
    if not root.is_dir():
        return []
    return [_summarise(path) for path in sorted(root.iterdir()) if path.is_dir()]


def remove_model(name: str) -> int:
    """Delete a model of the models directory, partial ones too; returns the bytes freed. Raises UnknownModelError."""
    name = catalog_name(name)
    path = models_directory() / name
    if not NAME.fullmatch(name) or not path.is_dir() or path.is_symlink():
        known = ", ".join(summary.name for summary in list_models()) or "none"
        raise UnknownModelError(
            f"there is no model {name!r} in {models_directory()} (only those are removed); there: {known}"
        )
    size = _size(path)
    shutil.rmtree(path)
    return size


def describe_model(directory: Path) -> ModelDescription:
    """Raises StorageError."""
    manifest = load_manifest(directory)
    spec = manifest.decoder
    lap = [*manifest.layer_extents, *manifest.head_extents]
    return ModelDescription(
        path=str(directory),
        family=spec.family,
        layers=spec.layer_count,
        hidden_size=spec.hidden_size,
        heads=spec.head_count,
        kv_heads=spec.kv_head_count,
        ff_size=spec.ff_size,
        vocab_size=spec.vocab_size,
        max_context=spec.max_context,
        tied_head=spec.tied_head,
        layout=manifest.layout,
        group=manifest.group,
        parameters=manifest.parameter_count,
        source=f"{manifest.source.kind}: {manifest.source.name}",
        note=manifest.source.note,
        shards=len(manifest.shards),
        extents=len(manifest.extents),
        decoded_bytes=sum(extent.bytes for extent in manifest.extents),
        stored_bytes=sum(extent.stored_bytes for extent in manifest.extents),
        bytes_per_token=sum(manifest.extents[i].bytes for i in lap),
        stored_bytes_per_token=sum(manifest.extents[i].stored_bytes for i in lap),
        tables=tuple(_groups(manifest)),
    )


def _groups(manifest: Manifest) -> list[TableGroup]:
    stored = [[0] * len(table.planes) for table in manifest.tables]
    decoded = [0] * len(manifest.tables)
    for extent in manifest.extents:
        stored[extent.table][extent.plane] += extent.stored_bytes
        decoded[extent.table] += extent.bytes
    alike: dict[tuple[str, str, str], list[int]] = {}
    for index, table in enumerate(manifest.tables):
        alike.setdefault((table.role, table.element, table.planes[0].codec), []).append(index)
    groups: list[TableGroup] = []
    for (role, _, codec), indices in alike.items():
        first = manifest.tables[indices[0]]
        weights = sum(manifest.tables[i].bundle_count for i in indices) * first.bundle_elements
        groups.append(
            TableGroup(
                role=role,
                layout=first.layout,
                element=first.element,
                codec=codec,
                tables=len(indices),
                bundles=sum(manifest.tables[i].bundle_count for i in indices),
                bundle_bytes=first.bundle_bytes,
                decoded_bytes=sum(decoded[i] for i in indices),
                stored_bytes_per_plane=tuple(map(sum, zip(*(stored[i] for i in indices), strict=True))),
                bits_per_weight=8 * sum(map(sum, (stored[i] for i in indices))) / weights,
                layers=max(manifest.tables[i].layers for i in indices),
                exceptions=_count_exceptions(manifest, indices),
                capacity=_most_room(manifest, indices),
            )
        )
    return groups


def _count_exceptions(manifest: Manifest, tables: Sequence[int]) -> int | None:
    name = manifest.tables[tables[0]].planes[0].codec
    extents = [manifest.extents[i] for table in tables for i in manifest.extents_of(TableId(table))]
    if name == "bf16-bundles":
        return sum(extent.exceptions for extent in extents)
    if name != "bf16-planes":
        return None
    count = 0
    for extent in extents:
        if extent.plane == 1:
            table = manifest.tables[extent.table]
            least, _ = get_codec(name).placed_bytes(1, table, extent.bundle_stop - extent.bundle_start)
            count += (extent.bytes - least) // EXCEPTION_BYTES
    return count


def _most_room(manifest: Manifest, tables: Sequence[int]) -> int | None:
    if manifest.tables[tables[0]].planes[0].codec != "bf16-bundles":
        return None
    return max(capacity_of(manifest.tables[i]) for i in tables)


def _summarise(path: Path) -> ModelSummary:
    size = _size(path)
    if path.name.endswith(".partial"):
        problem = "unfinished: run the same pull or convert again"
        return ModelSummary(path.name, str(path), size, None, None, problem)
    try:
        manifest = load_manifest(path)
    except StorageError as error:
        return ModelSummary(path.name, str(path), size, None, None, str(error))
    return ModelSummary(path.name, str(path), size, manifest.decoder.family, manifest.source.name, None)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
