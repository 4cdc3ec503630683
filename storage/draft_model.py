"""A second model in the cell of the first, to draft for it: one manifest over both, so that arena and reader know one.

The tables, shards and extents of the draft model come behind those of the other, their ids shifted. So are their
layers: no role is found but the first model's. The second is computed with by its own manifest, and where its extents
lie is a slice of where all lie. Its shards are named by absolute paths.
"""

import json
from pathlib import Path

import msgspec

from tidemill.storage.errors import FormatError
from tidemill.storage.manifest import MODEL_LAYER, Extent, Manifest, Shard, Table
from tidemill.storage.manifest_file import load_manifest

TOKENIZER_FILE = "tokenizer.json"
FIRST_LAYER = 1 << 20  # of the draft model; no model has so many


class DraftModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Its extent i is extent `first_extent` + i of the cell."""

    directory: str
    first_extent: int


class DraftModelError(ValueError):
    """A model that cannot draft for this one."""


def load_cell_manifest(directory: Path, draft: Path | None) -> Manifest:
    """Of a model, and of the one that drafts for it, if any. Raises FormatError, VersionError."""
    manifest = load_manifest(directory)
    return manifest if draft is None else append_model(manifest, load_manifest(draft), draft)


def append_model(manifest: Manifest, draft: Manifest, directory: Path) -> Manifest:
    """Both in one. `directory`: where `draft` lies."""
    first_table, first_shard = len(manifest.tables), len(manifest.shards)

    def table(own: Table) -> Table:
        moved = None if own.permutation is None else own.permutation + first_table
        return msgspec.structs.replace(own, layer=own.layer + FIRST_LAYER, permutation=moved)

    def extent(own: Extent) -> Extent:
        return msgspec.structs.replace(own, table=own.table + first_table, shard=own.shard + first_shard)

    def shard(own: Shard) -> Shard:
        return msgspec.structs.replace(own, file=str(directory.resolve() / own.file))

    return msgspec.structs.replace(
        manifest,
        tables=(*manifest.tables, *map(table, draft.tables)),
        shards=(*manifest.shards, *map(shard, draft.shards)),
        extents=(*manifest.extents, *map(extent, draft.extents)),
    )


def describe_table(table: Table) -> str:
    """Its role and layer, for people."""
    drafts = table.layer >= FIRST_LAYER + MODEL_LAYER
    layer = table.layer - FIRST_LAYER if drafts else table.layer
    place = table.role if layer == MODEL_LAYER else f"{table.role} of layer {layer}"
    return f"{place} of the draft model" if drafts else place


def check_draft_model(directory: Path, draft_directory: Path, *, context: int) -> None:
    """Raises DraftModelError for a model that is the same, has other tokens, holds fewer positions than `context`, or
    isn't computed with whole; FormatError for one that cannot be read."""
    if draft_directory.resolve() == directory.resolve():
        raise DraftModelError(
            f"--draft model:{draft_directory} is the model itself: it would draft as slowly as it checks. Give a "
            "smaller model of the same vocabulary, or --draft planes"
        )
    manifest, draft = load_manifest(directory), load_manifest(draft_directory)
    if draft.layout != "dense":
        raise DraftModelError(
            f"--draft model:{draft_directory} is in layout {draft.layout}, expected dense: it lies in memory whole. "
            f"Convert it: tidemill convert SOURCE {draft_directory}-dense"
        )
    if draft.decoder.max_context < context:
        raise DraftModelError(
            f"--draft model:{draft_directory} holds {draft.decoder.max_context} positions, expected the context of "
            f"{context}; give -c {draft.decoder.max_context} or another model"
        )
    expected, got = manifest.decoder.vocab_size, draft.decoder.vocab_size
    if got != expected:
        raise DraftModelError(
            f"--draft model:{draft_directory} has another vocabulary: {got} tokens, expected the {expected} of "
            f"{directory}; give a model of the same family"
        )
    _check_tokens(directory, manifest, draft_directory, draft)


def _check_tokens(directory: Path, manifest: Manifest, draft_directory: Path, draft: Manifest) -> None:
    """Files may differ where the tokens don't."""
    checksums = [{f.file: f.checksum for f in m.files}.get(TOKENIZER_FILE) for m in (manifest, draft)]
    if checksums[0] is not None and checksums[0] == checksums[1]:
        return
    expected, got = _tokens_of(directory / TOKENIZER_FILE), _tokens_of(draft_directory / TOKENIZER_FILE)
    for i in sorted(expected.keys() | got.keys()):
        if expected.get(i) != got.get(i):
            raise DraftModelError(
                f"--draft model:{draft_directory} has another vocabulary: in {draft_directory / TOKENIZER_FILE} token "
                f"{i} is {got.get(i)!r}, expected {expected.get(i)!r} as in {directory}; give a model of the same "
                "family"
            )


def _tokens_of(path: Path) -> dict[int, str]:
    """By id. Raises FormatError."""
    try:
        content = json.loads(path.read_bytes())
        vocabulary = content["model"]["vocab"]
        if isinstance(vocabulary, dict):
            tokens = {int(i): str(token) for token, i in vocabulary.items()}
        else:  # of Unigram: [token, score]
            tokens = {i: str(token) for i, (token, _) in enumerate(vocabulary)}
        added = {int(token["id"]): str(token["content"]) for token in content.get("added_tokens", [])}
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}; convert or pull the model again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is no tokenizer: {error!r}; convert or pull the model again") from None
    return tokens | added
