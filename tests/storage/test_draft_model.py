import json
from pathlib import Path

import pytest

from tests.fakes.layouts import write_blocky_model
from tests.fakes.models import tokenizer_json, write_tiny_model
from tidemill.storage.arena_plan import always_locked, least_arena_bytes, plan_arena
from tidemill.storage.convert.tables import LayoutChoice
from tidemill.storage.draft_model import (
    DraftModelError,
    check_draft_model,
    describe_table,
    load_cell_manifest,
)
from tidemill.storage.errors import FormatError
from tidemill.storage.manifest_file import load_manifest


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its head is the embedding, so it has no table of the role that the draft's head has."""
    directory = tmp_path_factory.mktemp("models") / "target"
    write_tiny_model(directory)
    return directory


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "draft"
    write_tiny_model(directory, seed=5, layers=6, codec="bf16-planes")
    return directory


def test_roles_stay_those_of_the_model_and_its_ids_are_unchanged(target: Path, draft: Path) -> None:
    own, both = load_manifest(target), load_cell_manifest(target, draft)
    assert both.layer_extents == own.layer_extents
    assert both.head_table == own.head_table
    assert both.layout == own.layout
    assert both.find_table("attn_qkv", 5) is None, "the draft has six layers, the model four"
    assert both.extents[: len(own.extents)] == own.extents
    assert both.tables[: len(own.tables)] == own.tables


def test_the_drafts_extents_follow_with_shifted_ids_in_shards_named_by_absolute_paths(
    target: Path, draft: Path
) -> None:
    own, other, both = load_manifest(target), load_manifest(draft), load_cell_manifest(target, draft)
    assert len(both.extents) == len(own.extents) + len(other.extents)
    for extent, appended in zip(other.extents, both.extents[len(own.extents) :], strict=True):
        assert both.tables[appended.table].role == other.tables[extent.table].role
        path = target / both.shards[appended.shard].file
        assert path == draft / other.shards[extent.shard].file
        assert path.is_absolute()
        assert (appended.offset, appended.bytes, appended.checksums) == (extent.offset, extent.bytes, extent.checksums)


def test_every_extent_of_the_draft_is_locked_in_any_arena(target: Path, draft: Path) -> None:
    own, both = load_manifest(target), load_cell_manifest(target, draft)
    first = len(own.extents)
    least = least_arena_bytes(both, "even", first)
    for arena_bytes in (least, 1 << 40):
        plan = plan_arena(both, arena_bytes, resident_from=first)
        assert all(plan.is_locked(i) for i in range(first, len(both.extents)))
    assert least > least_arena_bytes(own)
    assert plan_arena(both, least, resident_from=first).ring_slots > 0
    assert len(set(always_locked(both, first))) == len(always_locked(both, first))


def test_tables_are_described_by_role_layer_and_model(target: Path, draft: Path) -> None:
    both = load_cell_manifest(target, draft)
    described = [describe_table(table) for table in both.tables]
    assert described[0] == "attn_norm of layer 0"
    assert described[-1] == "head of the draft model"
    assert "mlp of layer 5 of the draft model" in described
    assert len(set(described)) == len(described)


def test_a_draft_of_the_same_vocabulary_is_taken_even_if_its_tokenizer_is_written_otherwise(
    target: Path, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "same", seed=5, layers=2)
    check_draft_model(target, tmp_path / "same", context=100)
    indented = json.dumps(json.loads(tokenizer_json(96)), indent=1).encode()
    write_tiny_model(tmp_path / "indented", seed=5, layers=2, tokenizer=indented)
    check_draft_model(target, tmp_path / "indented", context=100)


def test_another_vocabulary_is_refused_with_what_differs(target: Path, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "larger", vocab_size=112)
    with pytest.raises(DraftModelError, match=r"larger has another vocabulary: 112 tokens, expected the 96 of"):
        check_draft_model(target, tmp_path / "larger", context=100)
    write_tiny_model(tmp_path / "other", tokenizer=tokenizer_json(96).replace(b'"w7"', b'"seven"'))
    with pytest.raises(DraftModelError, match=r"other/tokenizer.json token 7 is 'seven', expected 'w7'"):
        check_draft_model(target, tmp_path / "other", context=100)


def test_the_model_itself_and_a_short_context_are_refused(target: Path, draft: Path) -> None:
    with pytest.raises(DraftModelError, match="is the model itself"):
        check_draft_model(target, target.parent / "x" / ".." / "target", context=100)
    with pytest.raises(DraftModelError, match=r"holds 512 positions, expected the context of 513; give -c 512"):
        check_draft_model(target, draft, context=513)


def test_a_tokenizer_that_cannot_be_read_is_refused(target: Path, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "damaged", tokenizer=b"{}")
    with pytest.raises(FormatError, match="is no tokenizer"):
        check_draft_model(target, tmp_path / "damaged", context=100)


def test_a_draft_whose_bundles_come_one_by_one_is_refused(target: Path, tmp_path: Path) -> None:
    write_blocky_model(tmp_path / "active", LayoutChoice("input-channel", 1))
    with pytest.raises(DraftModelError, match="is in layout input-channel, expected dense"):
        check_draft_model(target, tmp_path / "active", context=100)
