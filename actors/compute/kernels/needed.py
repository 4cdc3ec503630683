"""Which kernels a model's steps run, by name: for compiling them, and for knowing whether that was done. It lies apart
so that asking does not import numba."""

from collections.abc import Sequence

from tidemill.storage.manifest import Manifest, Table

CHANNELS, NEURONS = ":channels", ":neurons"  # of self-contained bundles; behind the kind of the table


def needed_kernels(manifest: Manifest) -> Sequence[str]:
    """Kinds of tables (`Table.kind`) that extents are computed with, and those with CHANNELS or NEURONS of which single
    bundles are; in alphabetical order."""
    extents = (*manifest.layer_extents, *manifest.head_extents)
    return sorted({_name(manifest.tables[manifest.extents[i].table]) for i in extents})


def _name(table: Table) -> str:
    if not table.is_self_contained:
        return table.kind
    return table.kind + (CHANNELS if table.layout == "input-channel" else NEURONS)
