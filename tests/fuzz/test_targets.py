"""A few hostile inputs of every format: only documented errors, in bounded time and memory."""

import importlib
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.campaign import TARGETS
from tests.fuzz.mutations import examples, hostile

ALLOCATED_MAX = 32 << 20


@pytest.mark.fuzz
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=examples(8), deadline=10_000, suppress_health_check=list(HealthCheck), database=None)
@given(draw=st.data())
def test_hostile_bytes_end_in_documented_errors(name: str, draw: st.DataObject) -> None:
    target = importlib.import_module(f"tests.fuzz.targets.{name}")
    target.check(draw.draw(hostile(target.seeds())))


@pytest.mark.parametrize("name", TARGETS)
def test_valid_bytes_pass_in_little_memory(name: str) -> None:
    target = importlib.import_module(f"tests.fuzz.targets.{name}")
    seeds = target.seeds()[:12]
    assert seeds
    target.check(seeds[0])  # what is imported late is no allocation of the format's
    tracemalloc.start()
    try:
        for seed in seeds:
            target.check(seed)
        assert tracemalloc.get_traced_memory()[1] < ALLOCATED_MAX
    finally:
        tracemalloc.stop()
