"""The command line on a tiny model in the in-process launcher: real engine, no processes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fakes.models import write_tiny_model
from tidemill.runtime.catalog import models_directory
from tidemill.runtime.cli.main import app

PROMPT = "w5 w80 w33"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(directory)
    return directory


def run(tiny: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    command = ["run", "-m", str(tiny), "--launcher", "in-process", "--ram", "none", *arguments]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == status, result.output
    return result.stdout, result.stderr


def test_the_text_goes_to_stdout_and_the_summary_to_stderr(tiny: Path) -> None:
    out, err = run(tiny, "-p", PROMPT, "-n", "5")
    assert len(out.split()) == 5
    for word in ("prompt", "decode", "flash", "arena", "memory", "bottleneck", "reads, busy", "no ceiling"):
        assert word in err


def test_json_is_one_object_with_the_same_tokens(tiny: Path) -> None:
    text, _ = run(tiny, "-p", PROMPT, "-n", "5")
    out, err = run(tiny, "-p", PROMPT, "-n", "5", "--json")
    result = json.loads(out)
    assert result["text"].strip() == text.strip()
    assert result["generated_tokens"] == len(result["token_ids"]) == 5
    assert result["prompt_tokens"] == 3
    assert result["ceiling_bytes"] is None
    assert err == ""


def test_the_same_seed_gives_the_same_text_and_greedy_is_the_default(tiny: Path) -> None:
    flags = (
        "-p",
        PROMPT,
        "-n",
        "12",
        "--temp",
        "1.5",
        "--top-k",
        "50",
        "--top-p",
        "0.98",
        "--min-p",
        "0.001",
        "--repeat-penalty",
        "1.1",
    )
    assert run(tiny, *flags, "-s", "3")[0] == run(tiny, *flags, "-s", "3")[0] != run(tiny, *flags, "-s", "4")[0]


def test_a_stop_string_ends_the_text_before_it(tiny: Path) -> None:
    whole, _ = run(tiny, "-p", PROMPT, "-n", "9")
    stop = whole.split()[4]
    out, _ = run(tiny, "-p", PROMPT, "-n", "9", "--stop", stop)
    assert out.strip() == whole[: whole.index(stop)].strip()


def test_the_prompt_comes_from_a_file_or_a_pipe_too(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text(PROMPT)
    expected, _ = run(tiny, "-p", PROMPT, "-n", "3")
    assert run(tiny, "-f", str(tmp_path / "prompt.txt"), "-n", "3")[0] == expected
    command = ["run", "-m", str(tiny), "--launcher", "in-process", "--ram", "none", "-n", "3"]
    assert CliRunner().invoke(app, command, input=PROMPT).stdout == expected
    assert run(tiny, "-p", "a", "-f", "b", status=2)[1].count("not both") == 1


def test_flags_have_environment_twins(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_MAX_TOKENS", "2")
    monkeypatch.setenv("TIDEMILL_MODEL", str(tiny))
    result = CliRunner().invoke(app, ["run", "--launcher", "in-process", "--ram", "none", "-p", PROMPT])
    assert len(result.stdout.split()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--ram", "12parsecs"), "is no size"),
        (("--ram", "20MiB"), "needs at least"),
        (("--temp", "-1"), "temperature is -1.0, accepted: 0"),
        (("--top-p", "2"), "top_p is 2.0"),
        (("-c", "100000"), "context is 100000, accepted: 1 to the model's 512"),
        (("-c", "2"), "the prompt has 3 tokens, the context 2"),
        (("-t", "9999"), "threads is 9999"),
        (("--io-depth", "1000"), "io_depth is 1000, accepted: 1 to 64"),
        (("--arena", "1"), "--arena"),
        (("--device", "emulate:floppy"), "accepted: none, ufs-2.2"),
        (("--device", "emulate:none,fault=enospc:@1GiB"), "enospc is of writers"),
    ],
)
def test_a_bad_value_is_an_error_that_says_what_is_accepted(tiny: Path, arguments: tuple[str, ...], says: str) -> None:
    _, err = run(tiny, "-p", PROMPT, "-n", "2", *arguments, status=1)
    assert says in err
    assert "Traceback" not in err


def test_an_emulated_drive_gives_the_same_text_and_says_what_it_was(tiny: Path) -> None:
    flags = ("-p", PROMPT, "-n", "5")
    device = "emulate:none,latency=100us,fault=eio:10%,seed=1"
    out, err = run(tiny, *flags, "--device", device, "--no-verify-reads")
    assert out == run(tiny, *flags)[0]
    assert f"emulated {device}: " in " ".join(err.split())
    assert "read again" in err
    result = json.loads(run(tiny, *flags, "--device", device, "--json")[0])
    assert result["emulation"]["device"] == device
    assert result["emulation"]["faults"] == result["read_retries"] > 0


def test_wrong_flags_are_usage_errors(tiny: Path) -> None:
    run(tiny, "-p", PROMPT, "--load-mode", "mmap", status=2)
    run(tiny, "-p", PROMPT, "-n", "0", status=2)
    run(tiny, "-p", PROMPT, "--nonsense", status=2)


def test_an_unknown_model_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["run", "-m", "nope", "-p", "x"])
    assert result.exit_code == 1
    assert "tidemill pull" in result.stderr


def test_csv_has_a_row_per_token_between_preamble_and_summary(tiny: Path, tmp_path: Path) -> None:
    run(tiny, "-p", PROMPT, "-n", "4", "--csv", str(tmp_path / "t.csv"))
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0].startswith("# tidemill")
    assert lines[-1].startswith("# summary")
    assert len([line for line in lines if not line.startswith("#")]) == 1 + 4


def test_a_csv_that_cannot_be_written_costs_no_summary(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text, err = run(tiny, "-p", PROMPT, "-n", "4", "--csv", str(tmp_path / "file" / "t.csv"), status=1)
    assert len(text.split()) == 4
    assert "bottleneck" in err
    assert "error: [Errno 17] File exists" in err


def test_a_csv_may_go_to_what_is_no_file(tiny: Path) -> None:
    if Path("/dev/full").exists():
        _, err = run(tiny, "-p", PROMPT, "-n", "2", "--csv", "/dev/full", status=1)
        assert "No space left on device" in err
        assert Path("/dev/full").is_char_device()


def test_chat_needs_a_template_and_keeps_a_conversation(tiny: Path, tmp_path: Path) -> None:
    flags = ["chat", "-m", str(tiny), "--launcher", "in-process", "--ram", "none", "-n", "3", "-c", "40"]
    result = CliRunner().invoke(app, flags, input="w1\n")
    assert result.exit_code == 1
    assert "no chat template" in result.stderr
    write_tiny_model(tmp_path / "chatty")
    (tmp_path / "chatty" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }} w9 {% endfor %}")
    flags[2] = str(tmp_path / "chatty")
    result = CliRunner().invoke(app, flags, input="w1 w2\n/help\nw3\n/reset\nw1 w2\n" + "w1 " * 60 + "\n/exit\n")
    assert result.exit_code == 0, result.output
    first, second, again = (line.strip() for line in result.stdout.strip().splitlines())
    assert first == again != second
    assert "/reset forgets" in result.stderr
    assert "tokens, the context 40" in result.stderr


def test_info_says_what_memory_planes_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_tiny_model(tmp_path / "planes", codec="bf16-planes", extent_bytes=1 << 16)
    write_tiny_model(tmp_path / "raw")
    runner = CliRunner()
    planes = json.loads(runner.invoke(app, ["info", str(tmp_path / "planes"), "--json"]).stdout)["planes"]
    assert planes["context"] == 512
    assert planes["ceiling_bytes"] % (1 << 20) == 0
    assert planes["ceiling_bytes"] > planes["plane_0_bytes"] > planes["plane_1_bytes"] > 0
    out = " ".join(runner.invoke(app, ["info", str(tmp_path / "planes")]).stdout.split())
    assert f"--draft planes needs --ram {planes['ceiling_bytes'] >> 20}MiB" in out
    assert json.loads(runner.invoke(app, ["info", str(tmp_path / "raw"), "--json"]).stdout)["planes"] is None


def test_list_info_and_rm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_tiny_model(models_directory() / "tiny")
    runner = CliRunner()
    assert [model["name"] for model in json.loads(runner.invoke(app, ["list", "--json"]).stdout)] == ["tiny"]
    assert "tiny" in runner.invoke(app, ["list"]).stdout
    assert json.loads(runner.invoke(app, ["info", "tiny", "--json"]).stdout)["layers"] == 4
    assert "mlp" in runner.invoke(app, ["info", "tiny"]).stdout
    assert runner.invoke(app, ["rm", "tiny"], input="n\n").exit_code == 1
    assert runner.invoke(app, ["rm", "-y", "tiny"]).exit_code == 0
    assert runner.invoke(app, ["rm", "-y", "tiny"]).exit_code == 1


def test_doctor_reports_and_fails_on_damage(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runner = CliRunner()
    result = runner.invoke(app, ["doctor", "-m", str(tiny), "--deep", "--json"])
    assert result.exit_code == 0
    names = {finding["name"] for finding in json.loads(result.stdout)["findings"]}
    assert {"cpu", "memory", "cgroup", "shared memory", "direct I/O", "disk", "packages", "model", "checksums"} <= names
    write_tiny_model(tmp_path / "bad")
    (shard,) = (tmp_path / "bad" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[9000] ^= 1
    shard.write_bytes(data)
    assert runner.invoke(app, ["doctor", "-m", str(tmp_path / "bad")]).exit_code == 0
    assert runner.invoke(app, ["doctor", "-m", str(tmp_path / "bad"), "--deep"]).exit_code == 1
    assert runner.invoke(app, ["doctor", "--deep"]).exit_code == 2
    assert runner.invoke(app, ["doctor", "-m", "nope"]).exit_code == 1


def test_version_and_help() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("tidemill ")
    for verb in ("run", "chat", "convert", "pull", "list", "info", "rm", "doctor", "clean"):
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0
