from benchmarks.active_variants import CONVERSIONS, LAYOUT_OF, SETS, plan_batches, plan_variants


def test_a_variant_that_two_sets_ask_for_is_planned_once() -> None:
    planned = plan_variants(SETS, [0.5, 0.7], 4)
    assert len({variant.name for variant in planned}) == len(planned)
    shared = [variant for variant in planned if variant.name == "topk 50% ic4"]
    assert [variant.sets for variant in shared] == [frozenset({"policies", "groups", "cache", "preload"})]
    assert all(variant.sets == {"policies"} for variant in planned if variant.sparsity == 0.7)


def test_every_variant_runs_a_conversion_in_the_layout_that_its_policy_needs() -> None:
    layouts = {conversion.name: conversion.layout for conversion in CONVERSIONS}
    planned = plan_variants(SETS, [0.5], 1)
    assert all(layouts[variant.conversion] == LAYOUT_OF[variant.policy] for variant in planned)
    assert {variant.conversion for variant in planned} == set(layouts)


def test_flags_name_what_is_not_the_default() -> None:
    (variant,) = (v for v in plan_variants(["cache"], [0.5], 4) if v.name == "gate 50% gate, residency none")
    assert variant.flags == ("--select", "gate", "--sparsity", "0.5", "--residency", "none")
    (variant,) = (v for v in plan_variants(["cache"], [0.5], 4) if v.name == "gate 50% gate, quotas fixed")
    assert variant.flags[-4:] == ("--residency", "lfu", "--quotas", "fixed")


def test_batches_hold_no_more_conversions_than_the_disk() -> None:
    batches = plan_batches(plan_variants(["groups", "orders"], [0.5], 4), keep=3)
    assert [len(batch) for batch in batches] == [3, 3, 3, 2]
    assert [conversion for batch in batches for conversion in batch] == list(CONVERSIONS)
