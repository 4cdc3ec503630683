"""A small file system of its own for one command: a tmpfs in a private mount namespace, gone with it."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.runtime.stress.soak.grounds import Grounds

NO_MOUNT = 97  # exit status of the script where nothing could be mounted
SCRIPT = f"""
mount -t tmpfs -o "$1" none "$2" || exit {NO_MOUNT}
[ "$3" = filled ] && cat /dev/zero > "$2/filler" 2>/dev/null
disk=$2 left=$4
shift 4
"$@"
status=$?
find "$disk" -mindepth 1 ! -name filler > "$left"
exit $status
"""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """`options`: of mount. `filled`: a file takes all of it beforehand. `command` runs a program over it."""

    path: Path
    options: str
    left: Path  # what was there when the command had ended, a path in each line
    is_filled: bool = False

    def command(self, program: Sequence[str]) -> list[str]:
        filled = "filled" if self.is_filled else "empty"
        return [*_unshare(), "sh", "-c", SCRIPT, "sh", self.options, str(self.path), filled, str(self.left), *program]

    def names_left(self) -> list[str]:
        text = self.left.read_text() if self.left.exists() else ""
        return [str(Path(line).relative_to(self.path)) for line in text.splitlines()]


def make_disk(grounds: Grounds, name: str, options: str, *, is_filled: bool = False) -> SmallDisk:
    path = grounds.disks / name
    path.mkdir(exist_ok=True)
    left = grounds.output / f"left-{name}"
    left.unlink(missing_ok=True)
    return SmallDisk(path, options, left, is_filled)


def find_refusal(grounds: Grounds, environment: Mapping[str, str]) -> str:
    """Why no such disk can be had here; empty where it can."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "unshare and mount are not there"
    disk = make_disk(grounds, "trial", "size=64k")
    done = subprocess.run(
        disk.command(["true"]), env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return "" if done.returncode == 0 else f"no small file system can be mounted: {done.stderr.strip()}"


def _unshare() -> list[str]:
    if os.getuid() == 0:
        return ["unshare", "--mount"]
    return ["unshare", "--user", "--map-root-user", "--mount"]
