"""All actors in the engine's own process and thread, the delivery order chosen: whole cells that can be replayed."""

import os
import random
import select
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tidemill.actors.actor import Actor, Send
from tidemill.actors.counters import Counters, new_counters
from tidemill.actors.messages import ActorName, ComputeToEngine, EngineToCompute, Message
from tidemill.actors.wiring import LINKS, LinkSpec
from tidemill.runtime.assembly import build_actor, prepare_actor
from tidemill.runtime.cell_spec import CellSpec
from tidemill.runtime.lab import Lab
from tidemill.runtime.launchers.launcher import ActorDiedError, CellClosedError
from tidemill.runtime.links.queue_link import QueueLink
from tidemill.runtime.region import Region
from tidemill.runtime.run_directory import RunDirectory

ACTORS = (ActorName.PREDICTOR, ActorName.ARENA, ActorName.READER, ActorName.COMPUTE)


class InProcessCell:
    """Delivers messages between actors, one at a time, in an order drawn from `seed` (None: round robin).

    `after_delivery` is called with each actor that has just handled a message: tests validate states there.
    """

    def __init__(
        self,
        actors: Mapping[ActorName, Actor],
        *,
        clock_ns: Callable[[], int],
        seed: int | None,
        after_delivery: Callable[[Actor], None] = lambda _: None,
    ) -> None:
        self._actors = actors
        self._clock_ns = clock_ns
        self._random = None if seed is None else random.Random(seed)
        self._after_delivery = after_delivery
        self._links: dict[tuple[ActorName, ActorName], QueueLink] = {
            (link.writer, link.reader): QueueLink(link) for link in LINKS
        }
        self._inward: list[LinkSpec] = [link for link in LINKS if link.reader in actors]
        self._turn = 0

    def start(self) -> None:
        for name, actor in self._actors.items():
            self._route(name, actor.start())

    def send(self, message: EngineToCompute) -> None:
        self._links[ActorName.ENGINE, ActorName.COMPUTE].send(message)

    def take_answers(self) -> list[Message]:
        link = self._links[ActorName.COMPUTE, ActorName.ENGINE]
        answers: list[Message] = []
        while (message := link.receive()) is not None:
            answers.append(message)
        return answers

    def step(self) -> bool:
        """Deliver one message, or let one actor work; False when nobody has anything to do before a device wakes
        them."""
        worked = self._poll_devices() if self._random is None or self._random.random() < 0.5 else False
        waiting = [link for link in self._inward if len(self._links[link.writer, link.reader])]
        workers = [name for name, actor in self._actors.items() if actor.wants_poll]
        choices: list[LinkSpec | ActorName] = [*waiting, *workers]
        if not choices:
            return worked or self._poll_devices()
        choice = self._choose(choices)
        if isinstance(choice, ActorName):
            self._route(choice, self._actors[choice].poll(self._clock_ns()))
            return True
        message = self._links[choice.writer, choice.reader].receive()
        assert message is not None
        actor = self._actors[choice.reader]
        self._route(choice.reader, actor.handle(message, self._clock_ns()))
        self._route(choice.reader, actor.poll(self._clock_ns()))
        self._after_delivery(actor)
        return True

    def _poll_devices(self) -> bool:
        """Let actors that wait for a device look at it."""
        worked = False
        for name, actor in self._actors.items():
            if actor.wants_poll:
                continue
            sends = actor.poll(self._clock_ns())
            worked = worked or bool(sends)
            self._route(name, sends)
        return worked

    def wake_fds(self) -> list[int]:
        return [fd for actor in self._actors.values() for fd in actor.wake_fds]

    def _choose(self, choices: Sequence[LinkSpec | ActorName]) -> LinkSpec | ActorName:
        if self._random is not None:
            return self._random.choice(choices)
        self._turn += 1
        return choices[self._turn % len(choices)]

    def _route(self, sender: ActorName, sends: Sequence[Send]) -> None:
        for to, message in sends:
            self._links[sender, to].send(message)


class InProcessLauncher:
    """Implements Launcher with real devices and the real clock, in one thread."""

    name = "in-process"

    def __init__(self, seed: int | None = None, lab: Lab | None = None) -> None:
        self._seed = seed
        self._lab = lab
        self._cell: InProcessCell | None = None
        self._actors: dict[ActorName, Actor] = {}
        self._arena: Region | None = None
        self._run_directory = RunDirectory.create()
        self.counters: Counters = new_counters()

    def prepare(
        self,
        model_directories: Sequence[str],
        *,
        threads: int,
        selects: bool = False,
        draft_planes: bool = False,
        consumes: bool = False,
    ) -> None:
        for name in ACTORS:
            prepare_actor(
                name, model_directories, threads, selects=selects, draft_planes=draft_planes, consumes=consumes
            )

    def process_ids(self) -> Mapping[str, int]:
        return {"engine": os.getpid()}

    def start(self, spec: CellSpec) -> None:
        self._arena = Region.create("arena", spec.arena.plan.arena_bytes, self._run_directory.path)
        self._arena.advise_huge_pages()
        arena = self._arena.array
        for name in ACTORS:  # kept one by one: if a later one cannot be built, `close` still ends the reader's threads
            self._actors[name] = build_actor(name, spec, _arena_of(name, arena), self.counters, self._lab)
        self._cell = InProcessCell(self._actors, clock_ns=time.perf_counter_ns, seed=self._seed)
        self._cell.start()

    def send(self, message: EngineToCompute) -> None:
        self._check_open()
        assert self._cell is not None
        self._cell.send(message)

    def receive(self, timeout_s: float) -> Sequence[ComputeToEngine]:
        self._check_open()
        assert self._cell is not None
        until = time.monotonic() + timeout_s
        while True:
            try:
                worked = self._cell.step()
            except Exception as error:
                raise ActorDiedError(
                    f"an actor of the in-process cell failed: {type(error).__name__}: {error}"
                ) from error
            answers = self._cell.take_answers()
            remaining = until - time.monotonic()
            if answers or remaining <= 0:
                return answers  # type: ignore[return-value]  # the link's union
            if not worked:
                self._await_device(remaining)

    def close(self) -> None:
        try:
            for actor in self._actors.values():
                actor.stop(drain=False)
        finally:
            self._actors.clear()
            self._cell = None
            if self._arena is not None:
                self._arena.close()
                self._arena = None
            self._run_directory.remove()

    def _check_open(self) -> None:
        if self._cell is None:
            raise CellClosedError("the cell is closed; open the model again")

    def _await_device(self, timeout_s: float) -> None:
        """poll, not select: a program with more than 1024 open files has larger fds."""
        assert self._cell is not None
        poller = select.poll()
        for fd in self._cell.wake_fds():
            poller.register(fd, select.POLLIN)
        poller.poll(max(1, int(timeout_s * 1000)))


def _arena_of(
    name: ActorName, arena: "np.ndarray[tuple[int], np.dtype[np.uint8]]"
) -> "np.ndarray[tuple[int], np.dtype[np.uint8]] | None":
    return arena if name in (ActorName.READER, ActorName.COMPUTE) else None
