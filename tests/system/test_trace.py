"""A trace of real processes is replayed with the quotas that they had: the same bundles, the same hits."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.arena_quotas import arena_pools, arena_quotas
from benchmarks.policy_replay import make_policy, replay_tables
from benchmarks.quota_mover import Moves
from benchmarks.replayed_trace import load_trace
from tests.fakes.lossy_models import HALF_OF
from tidemill.actors.arena.residency.moving_quotas import RULES
from tidemill.runtime.llm import LLM
from tidemill.runtime.selection_recorder import SelectionRecorder, trace_header
from tidemill.storage.trace.trace_writer import TraceWriter

PROMPT = [5, 80, 33, 2, 61]


@pytest.mark.slow
def test_the_hit_rate_of_real_processes_is_the_replays(lossy_models: Mapping[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    with LLM.open(
        lossy_models["groups"], ram=None, arena=2_600_000, threads=1, selection=HALF_OF["groups"], preload="scaled",
        traces=True,
    ) as llm:  # fmt: skip
        manifest = llm.engine.manifest
        generation = llm.start(PROMPT, max_tokens=12)
        with TraceWriter(path, trace_header(manifest, llm.name, HALF_OF["groups"], len(PROMPT))) as writer:
            recorder = SelectionRecorder(writer, manifest)
            for event in generation.events():
                recorder.see(event)
        live = generation.summary().bundles
        quotas = arena_quotas(manifest, llm.engine.bundle_plan)
        moves = Moves(arena_pools(manifest, llm.engine.bundle_plan), RULES)
    trace = load_trace(path)
    policies = {key: make_policy("lfu", trace, key, 5, None, quota) for key, quota in quotas.items()}
    tallies = replay_tables(trace, policies, quotas, "none", moves).values()
    assert live is not None
    assert 0 < live.hits < live.used
    assert live.quota_moved == sum(t.moved for t in tallies) > 0
    assert (live.used, live.hits) == (sum(t.active for t in tallies), sum(t.hits for t in tallies))
