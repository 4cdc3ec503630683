"""What is demanded after every event. Pure: each judge says in words what it misses, and nothing where all is well."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tidemill.runtime.sizes import format_size
from tidemill.runtime.stress.soak.observation import Observation

GROWTH_BYTES = 48 << 20  # of the subject's own memory over a campaign: twice what its ledger reserves for growth


@dataclass(frozen=True, slots=True)
class SpecificError:
    """An error class, by name, and words that its text must have."""

    name: str
    words: tuple[str, ...]

    def fits(self, kinds: Collection[str], text: str) -> bool:
        return self.name in kinds and all(word in text for word in self.words)

    def __str__(self) -> str:
        return f"{self.name} with {', '.join(map(repr, self.words))}" if self.words else self.name


@dataclass(frozen=True, slots=True)
class Expected:
    """How a request may end: as if nothing had been (`passes`), or in one of `errors`. `counts`: what the cell must
    have counted at least once if it passed."""

    passes: bool
    errors: tuple[SpecificError, ...] = ()
    counts: tuple[str, ...] = ()

    def __str__(self) -> str:
        ways = ["the undisturbed run's tokens and logits"] if self.passes else []
        return " or ".join([*ways, *map(str, self.errors)])


CALM = Expected(passes=True)


@dataclass(frozen=True, slots=True)
class Broken:
    """The error that ended a request."""

    kinds: Sequence[str]
    text: str
    traceback: str
    is_expected: bool


Steps = Sequence[tuple[int, int]]  # (token, checksum of the logits' bits) of each


def judge_output(reference: Steps, got: Steps, broken: Broken | None, expected: Expected) -> list[str]:
    """Every token that came is the undisturbed run's; then all of them came, or an error that was to be."""
    missed = judge_tokens(reference, got)
    if broken is None:
        if len(got) < len(reference):
            missed.append(f"ended after {len(got)} of {len(reference)} tokens without an error")
        if not expected.passes:
            missed.append(f"got all {len(got)} tokens, expected {expected}")
        return missed
    if not any(error.fits(broken.kinds, broken.text) for error in expected.errors):
        missed.append(f"got {broken.kinds[0]}: {broken.text}\nexpected {expected}")
    if not broken.is_expected:
        missed.append(
            f"{broken.kinds[0]} is no error for users: `tidemill run` would show a traceback\n{broken.traceback}"
        )
    return missed


def judge_tokens(reference: Steps, got: Steps) -> list[str]:
    if len(got) > len(reference):
        return [f"got {len(got)} tokens, expected {len(reference)}"]
    for place, (ours, theirs) in enumerate(zip(got, reference, strict=False)):
        if ours != theirs:
            what = "token" if ours[0] != theirs[0] else "logits"
            return [
                f"wrong {what} at place {place}: got token {ours[0]} (logits {ours[1]:016x}), expected {theirs[0]} "
                f"({theirs[1]:016x})"
            ]
    return []


def judge_counts(counted: Mapping[str, int], expected: Expected) -> list[str]:
    """That what was to be survived has really been."""
    return [f"no {name} were counted: what was to happen did not" for name in expected.counts if not counted[name]]


def judge_memory(peak_bytes: int | None, ceiling_bytes: int | None) -> list[str]:
    if peak_bytes is None or ceiling_bytes is None or peak_bytes <= ceiling_bytes:
        return []
    return [f"memory: a peak of {format_size(peak_bytes)}, expected at most {format_size(ceiling_bytes)}"]


def judge_rest(now: Observation, known: Observation, processes: Collection[int]) -> list[str]:
    """Between two events nothing is there but what was there before any, `known`, and these processes."""
    return [
        *_judge_processes(now.processes, processes),
        *_judge_counted("descriptors", now.descriptors, known.descriptors),
        *_judge_counted("regions", now.regions, known.regions),
        *_judge_number("threads", now.threads, known.threads),
        *_judge_number("run directories", len(now.run_directories), len(known.run_directories)),
        *_judge_names("in /dev/shm", now.shared_memory, known.shared_memory),
        *_judge_names("among temporary files", now.files, known.files),
        *_judge_growth(now.private_bytes, known.private_bytes),
    ]


def judge_command(status: int, stderr: str, accepted: Collection[int]) -> list[str]:
    """How a command ended, and that it did so in words for users."""
    missed = []
    if status not in accepted:
        missed.append(
            f"exit status {status}, expected {' or '.join(map(str, sorted(accepted)))}: {stderr.strip()[-2000:]}"
        )
    for sign in ("Traceback", "Exception ignored", "Exception in thread", "Fatal Python error"):
        if sign in stderr:
            missed.append(f"{sign!r} on stderr: {stderr.strip()[-2000:]}")
            break
    return missed


def _judge_processes(now: Mapping[int, str], expected: Collection[int]) -> list[str]:
    left = [f"{process} ({what})" for process, what in now.items() if process not in expected]
    gone = [str(process) for process in expected if process not in now]
    missed = [f"processes left behind: {', '.join(left)}"] if left else []
    return [*missed, f"processes that should be there are not: {', '.join(gone)}"] if gone else missed


def _judge_counted(what: str, now: Mapping[str, int], known: Mapping[str, int]) -> list[str]:
    more = [
        f"{name} ({now[name]}, {known.get(name, 0)} before)" for name in sorted(now) if now[name] > known.get(name, 0)
    ]
    return [f"{what} left open: {', '.join(more)}"] if more else []


def _judge_number(what: str, now: int, known: int) -> list[str]:
    return [f"{what}: {now}, expected {known}"] if now > known else []


def _judge_names(where: str, now: Sequence[str], known: Sequence[str]) -> list[str]:
    more = sorted(set(now) - set(known))
    return [f"left behind {where}: {', '.join(more)}"] if more else []


def _judge_growth(now: int, known: int) -> list[str]:
    if now <= known + GROWTH_BYTES:
        return []
    return [f"memory: the engine's own process weighs {format_size(now)}, {format_size(known)} when the campaign began"]
