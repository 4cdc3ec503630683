"""Where a campaign takes place: directories of its own, and an environment by which its processes are known."""

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from tidemill.runtime.environment import child_environment
from tidemill.runtime.options import default_threads

MARK = "TIDEMILL_SOAK"  # in the environment of every process that the campaign starts, and of theirs


class Grounds:
    """A context manager; leaving removes the directories. Knows nothing of processes."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError where nothing can be made in `directory`."""
        self.path = Path(tempfile.mkdtemp(prefix=".soak-", dir=directory)).resolve()
        self.mark = secrets.token_hex(8)
        self.runs = self._make("runs")  # XDG_RUNTIME_DIR
        self.temporary = self._make("temporary")  # TMPDIR
        self.disks = self._make("disks")  # where small file systems are mounted
        self.output = self._make("output")  # what processes write to stderr

    @property
    def run_directories(self) -> Path:
        return self.runs / "tidemill"

    def environment(self) -> dict[str, str]:
        """Without anything that would give a command of ours options."""
        inherited = {k: v for k, v in child_environment(default_threads()).items() if not k.startswith("TIDEMILL_")}
        return {**inherited, "XDG_RUNTIME_DIR": str(self.runs), "TMPDIR": str(self.temporary), MARK: self.mark}

    def empty(self) -> None:
        """Of what processes left in it."""
        for directory in (self.run_directories, self.temporary):
            shutil.rmtree(directory, ignore_errors=True)
        self.temporary.mkdir(mode=0o700, exist_ok=True)

    def __enter__(self) -> "Grounds":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _make(self, name: str) -> Path:
        path = self.path / name
        path.mkdir(mode=0o700)
        os.chmod(path, 0o700)
        return path
