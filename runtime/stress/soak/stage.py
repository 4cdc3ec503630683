"""What all events of one campaign share: its grounds, the process that decodes, what an undisturbed run gives."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from tidemill.actors.messages import Sampling
from tidemill.runtime.llm import make_sampling
from tidemill.runtime.options import choose_load_mode
from tidemill.runtime.stress.soak.attempt import Act, Attempt, attempt
from tidemill.runtime.stress.soak.event import Event
from tidemill.runtime.stress.soak.grounds import Grounds
from tidemill.runtime.stress.soak.judges import Steps
from tidemill.runtime.stress.soak.messages import CellChoice, CellClosed, CloseCell, Decode
from tidemill.runtime.stress.soak.observation import marked_processes, show_stacks
from tidemill.runtime.stress.soak.patience import Patience
from tidemill.runtime.stress.soak.settings import SoakSettings
from tidemill.runtime.stress.soak.small_disk import SmallDisk
from tidemill.runtime.stress.soak.subject_process import HungError, SubjectProcess
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.arena_plan import ArenaPlan, least_arena_bytes, plan_arena
from tidemill.storage.manifest import Manifest
from tidemill.storage.manifest_file import load_manifest

TEXTS = ("Once upon a time, in a village by the sea, there lived", "The three laws of thermodynamics say that")
GREEDY = make_sampling(0.0, 0, 1.0, 0.0, 1.0, 0)
DRAWN = make_sampling(0.9, 40, 0.95, 0.0, 1.1, 7)
# Of a ceiling. What processes weigh differs from one opening to the next: by some MiB, and by 30 when others that share
# their libraries have ended since.
MARGIN_BYTES = 48 << 20
RECOVERY_TOKENS = 6


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended; `output` is as much of stdout as was read."""

    status: int
    output: str
    stderr: str


class Stage:
    """Owns the subject. `close` ends it."""

    def __init__(self, settings: SoakSettings, grounds: Grounds) -> None:
        """Raises StorageError."""
        self.settings = settings
        self.grounds = grounds
        self.manifest: Manifest = load_manifest(settings.model)
        tokenizer = TextTokenizer.open(settings.model, self.manifest.decoder.bos_token_id)
        self._prompts = [tuple(tokenizer.encode(text, add_special_tokens=True)) for text in TEXTS]
        self.references: dict[tuple[int, bool], Steps] = {}  # by prompt, and whether tokens are drawn
        self._beside_bytes = 0  # what a cell takes beside its arena, at most so far
        self._subject: SubjectProcess | None = None
        self.cell_processes: dict[str, int] = {}  # of the cell that is open

    @property
    def subject(self) -> SubjectProcess:
        if self._subject is None:
            self._subject = SubjectProcess(self.grounds)
        return self._subject

    @property
    def subject_id(self) -> int | None:
        return None if self._subject is None else self._subject.process_id

    @property
    def process_ids(self) -> set[int]:
        """Of the subject and its cell."""
        return {*self.cell_processes.values(), *([] if self._subject is None else [self._subject.process_id])}

    # --- requests

    def learn(self, prompt: int, *, is_sampled: bool) -> Attempt:
        """What this request gives where nothing happens: everything in memory, no ceiling, no drafts."""
        cell = self._cell(ram_bytes=None, arena_bytes=None)
        made = self.decode(self._request(cell, prompt, is_sampled))
        if made.broken is None:
            self.references[prompt, is_sampled] = tuple(made.steps)
        return made

    def weigh(self) -> Attempt:
        """Another undisturbed run, with the least arena, and drafts, which take most beside it."""
        cell = self._cell(ram_bytes=None, arena_bytes=self.arena_bytes(0.0), draft="ngram")
        return self.decode(self._request(cell, 0, False))

    def reference(self, event: Event) -> Steps:
        return self.references[event.prompt, event.is_sampled]

    def cell(self, event: Event, **changes: object) -> CellChoice:
        """Under a ceiling. `changes`: fields of the choice, and `share`, that are not as drawn."""
        arena_bytes = self.arena_bytes(float(changes.pop("share", event.share)))  # type: ignore[arg-type]
        ram_bytes = self._beside_bytes + arena_bytes + MARGIN_BYTES
        drawn: dict[str, object] = {"draft": event.draft, "restarts": event.restarts}
        return self._cell(ram_bytes=ram_bytes, arena_bytes=arena_bytes, **(drawn | changes))

    def request(self, event: Event, cell: CellChoice) -> Decode:
        return self._request(cell, event.prompt, event.is_sampled)

    def at(self, event: Event) -> int:
        """The token behind which it happens."""
        return max(1, int(event.at * self.settings.tokens))

    def decode(self, request: Decode, *, at: int = 0, act: Act = lambda _: None) -> Attempt:
        """Raises SubjectGoneError, HungError."""
        made = attempt(self.subject, request, self.patience(), at=at, act=act)
        self.cell_processes = made.process_ids
        if made.opened is not None:
            self._beside_bytes = max(self._beside_bytes, made.opened.beside_bytes)
        return made

    def recover(self, request: Decode) -> Attempt:
        """A few tokens of the same by the same cell, or another one where it is gone."""
        return self.decode(Decode(request.cell, request.prompt, RECOVERY_TOKENS, request.sampling))

    def close_cell(self) -> None:
        """Raises SubjectGoneError, HungError."""
        if self._subject is None:
            return
        self.cell_processes = {}
        self._subject.send(CloseCell())
        patience = self.patience()
        while not isinstance(self._subject.receive(patience), CellClosed):
            pass

    def drop_subject(self) -> None:
        """It ended, or is to: the next request is another one's."""
        subject, self._subject = self._subject, None
        self.cell_processes = {}
        if subject is not None:
            subject.kill()

    def patience(self) -> Patience:
        return Patience(self.settings.deadline_s)

    # --- sizes

    def arena_bytes(self, share: float) -> int:
        """That holds a share of the weights, at least what a step needs."""
        return max(least_arena_bytes(self.manifest), int(share * sum(e.bytes for e in self.manifest.extents)))

    def arena_plan(self, share: float) -> ArenaPlan:
        return plan_arena(self.manifest, self.arena_bytes(share))

    def shards(self, directory: Path | None = None) -> list[Path]:
        return [(directory or self.settings.model) / shard.file for shard in self.manifest.shards]

    # --- commands

    def spawn(
        self,
        arguments: Sequence[str],
        *,
        stdout: int | BinaryIO,
        stderr: int,
        disk: SmallDisk | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> "subprocess.Popen[bytes]":
        """A `tidemill` command, over a small disk if one is given; `environment`: beside the campaign's."""
        command = [sys.executable, "-P", "-m", "tidemill.runtime.cli.main", *arguments]
        return subprocess.Popen(
            command if disk is None else disk.command(command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**self.grounds.environment(), **environment},
            process_group=0,
            bufsize=0,
        )

    def command(
        self,
        arguments: Sequence[str],
        *,
        stdout: int | BinaryIO = subprocess.PIPE,
        disk: SmallDisk | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Done:
        """Run to its end. Raises HungError."""
        with self.spawn(
            arguments, stdout=stdout, stderr=subprocess.PIPE, disk=disk, environment=environment
        ) as process:
            output, stderr = self.follow(process)
        return Done(process.returncode, output.decode(errors="replace"), stderr.decode(errors="replace"))

    def follow(self, process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        """(the rest of stdout, stderr) of a command, to its end. Raises HungError."""
        patience = self.patience()
        try:
            while True:
                try:
                    output, stderr = process.communicate(timeout=max(0.01, patience.wait_s))
                except subprocess.TimeoutExpired:
                    if patience.is_over:
                        stacks = show_stacks(marked_processes(self.grounds.mark))
                        raise HungError(f"a command did not end in {patience.seconds:.0f} s\n{stacks}") from None
                else:
                    return output or b"", stderr or b""
        finally:
            process.kill()  # of one that has ended nothing is done

    def _cell(self, *, ram_bytes: int | None, arena_bytes: int | None, **rest: object) -> CellChoice:
        fields: dict[str, object] = {"load_mode": choose_load_mode("auto"), **rest}
        return CellChoice(
            model=str(fields.pop("model", self.settings.model)),
            ram_bytes=ram_bytes,
            arena_bytes=arena_bytes,
            context=max(map(len, self._prompts)) + self.settings.tokens,
            **fields,  # type: ignore[arg-type]
        )

    def _request(self, cell: CellChoice, prompt: int, is_sampled: bool) -> Decode:
        sampling: Sampling = DRAWN if is_sampled else GREEDY
        return Decode(cell, self._prompts[prompt], self.settings.tokens, sampling)
