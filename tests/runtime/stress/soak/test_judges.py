"""Each judge says nothing where all is well, and notices what it is there for."""

from dataclasses import replace

import pytest

from tidemill.runtime.stress.soak.judges import (
    CALM,
    GROWTH_BYTES,
    Broken,
    Expected,
    SpecificError,
    judge_command,
    judge_counts,
    judge_memory,
    judge_output,
    judge_rest,
)
from tidemill.runtime.stress.soak.observation import Observation

REFERENCE = ((5, 500), (6, 600), (7, 700))
DIED = SpecificError("ActorDiedError", ("the reader actor", "SIGKILL"))
DEATH = Broken(
    ("ActorDiedError", "RuntimeError", "Exception"), "the reader actor (process 3) was killed by SIGKILL", "", True
)
REST = Observation(
    processes={10: "subject", 11: "actor reader"},
    descriptors={"socket": 4, "memfd:tidemill-arena": 1},
    regions={"arena": 1},
    threads=2,
    run_directories=("10-abc",),
    shared_memory=("other",),
    files=(),
    private_bytes=60 << 20,
    tree_bytes=200 << 20,
)


def test_the_undisturbed_runs_tokens_are_right_and_so_is_an_error_that_was_to_be() -> None:
    assert judge_output(REFERENCE, REFERENCE, None, CALM) == []
    assert judge_output(REFERENCE, REFERENCE[:1], DEATH, Expected(True, (DIED,))) == []
    assert judge_output(REFERENCE, REFERENCE[:1], DEATH, Expected(False, (DIED,))) == []


@pytest.mark.parametrize(
    ("got", "broken", "expected", "missed"),
    [
        (((5, 500), (9, 600), (7, 700)), None, CALM, "wrong token at place 1: got token 9"),
        (((5, 500), (6, 601), (7, 700)), None, CALM, "wrong logits at place 1"),
        (((9, 500),), DEATH, Expected(True, (DIED,)), "wrong token at place 0"),  # before an error that was to be
        ((*REFERENCE, (8, 800)), None, CALM, "got 4 tokens, expected 3"),
        (REFERENCE[:2], None, CALM, "ended after 2 of 3 tokens without an error"),
        (
            REFERENCE,
            None,
            Expected(False, (DIED,)),
            "got all 3 tokens, expected ActorDiedError with 'the reader actor'",
        ),
        (REFERENCE[:1], DEATH, CALM, "got ActorDiedError: the reader actor"),
        (REFERENCE[:1], replace(DEATH, text="the arena actor, SIGKILL"), Expected(True, (DIED,)), "got ActorDiedError"),
        (REFERENCE[:1], replace(DEATH, kinds=("KeyError",)), Expected(True, (DIED,)), "got KeyError"),
        (REFERENCE[:1], replace(DEATH, is_expected=False), Expected(True, (DIED,)), "would show a traceback"),
    ],
)
def test_wrong_tokens_and_other_errors_are_noticed(
    got: tuple[tuple[int, int], ...], broken: Broken | None, expected: Expected, missed: str
) -> None:
    assert missed in "\n".join(judge_output(REFERENCE, got, broken, expected))


def test_what_was_to_be_survived_must_have_been() -> None:
    expected = Expected(True, counts=("retries",))
    assert judge_counts({"retries": 2, "rereads": 0}, expected) == []
    assert "no retries were counted" in judge_counts({"retries": 0, "rereads": 5}, expected)[0]


def test_a_peak_over_the_ceiling_is_noticed() -> None:
    assert judge_memory(100 << 20, 100 << 20) == []
    assert judge_memory(None, 1) == judge_memory(1, None) == []
    assert "a peak of 101.0 MiB, expected at most 100.0 MiB" in judge_memory(101 << 20, 100 << 20)[0]


def test_what_was_there_before_may_be_there() -> None:
    assert judge_rest(REST, REST, {10, 11}) == []
    less = replace(REST, descriptors={"socket": 1}, regions={}, threads=1, run_directories=(), private_bytes=0)
    assert judge_rest(less, REST, {10, 11}) == []


@pytest.mark.parametrize(
    ("now", "missed"),
    [
        (replace(REST, processes={**REST.processes, 12: "actor arena"}), "processes left behind: 12 (actor arena)"),
        (replace(REST, processes={10: "subject"}), "processes that should be there are not: 11"),
        (replace(REST, descriptors={"socket": 5}), "descriptors left open: socket (5, 4 before)"),
        (replace(REST, descriptors={"memfd:tidemill-x": 1}), "descriptors left open: memfd:tidemill-x (1, 0 before)"),
        (replace(REST, regions={"arena": 2}), "regions left open: arena (2, 1 before)"),
        (replace(REST, threads=3), "threads: 3, expected 2"),
        (replace(REST, run_directories=("10-abc", "9-old")), "run directories: 2, expected 1"),
        (replace(REST, shared_memory=("other", "tidemill-1")), "left behind in /dev/shm: tidemill-1"),
        (replace(REST, files=("tmp1",)), "left behind among temporary files: tmp1"),
        (replace(REST, private_bytes=REST.private_bytes + GROWTH_BYTES + 1), "the engine's own process weighs"),
    ],
)
def test_whatever_is_left_behind_is_noticed(now: Observation, missed: str) -> None:
    assert missed in "\n".join(judge_rest(now, REST, {10, 11}))


@pytest.mark.parametrize(
    ("status", "stderr", "missed"),
    [
        (0, "", "exit status 0, expected 1"),
        (-9, "", "exit status -9"),
        (1, "Traceback (most recent call last)", "'Traceback' on stderr"),
        (1, "Exception ignored in: <stdout>", "'Exception ignored' on stderr"),
    ],
)
def test_a_command_that_ends_in_another_way_is_noticed(status: int, stderr: str, missed: str) -> None:
    assert judge_command(1, "error: no space left", {1}) == []
    assert missed in "\n".join(judge_command(status, stderr, {1}))
