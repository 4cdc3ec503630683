"""The flags that several verbs share, each with its environment twin, and the records that they become."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from tidemill.actors.compute.selection.spec import SelectionSpec


class LoadModeChoice(StrEnum):
    auto = "auto"
    direct = "direct"
    staged = "staged"
    buffered = "buffered"


class LauncherChoice(StrEnum):
    local = "local"
    in_process = "in-process"


class OrderByChoice(StrEnum):
    frequency = "frequency"
    coactivation = "coactivation"


class LayoutFlag(StrEnum):
    dense = "dense"
    input_channel = "input-channel"
    gate_first = "gate-first"
    neuron = "neuron"


class CodecChoice(StrEnum):
    auto = "auto"
    raw = "raw"
    zstd = "zstd"
    bf16_planes = "bf16-planes"
    fp16_planes = "fp16-planes"


Model = Annotated[str, typer.Option("-m", "--model", envvar="TIDEMILL_MODEL", help="Name or path of a model.")]
Prompt = Annotated[
    str | None, typer.Option("-p", "--prompt", envvar="TIDEMILL_PROMPT", help="The prompt; - reads stdin.")
]
PromptFile = Annotated[
    Path | None, typer.Option("-f", "--file", envvar="TIDEMILL_FILE", help="Read the prompt from a file.")
]
System = Annotated[str | None, typer.Option("--system", envvar="TIDEMILL_SYSTEM", help="System message.")]
MaxTokens = Annotated[
    int,
    typer.Option(
        "-n", "--max-tokens", "--n-predict", envvar="TIDEMILL_MAX_TOKENS", min=1, help="Most tokens to generate."
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        "-c",
        "--ctx-size",
        envvar="TIDEMILL_CTX_SIZE",
        min=1,
        help="Positions the KV cache holds. Default: run: prompt and -n; chat: 2048 or the model's.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("-t", "--threads", envvar="TIDEMILL_THREADS", min=1, help="Compute threads. Default: all cores."),
]
Temperature = Annotated[float, typer.Option("--temp", envvar="TIDEMILL_TEMP", help="0 is greedy.")]
TopK = Annotated[int, typer.Option("--top-k", envvar="TIDEMILL_TOP_K", help="Keep the k likeliest tokens; 0: all.")]
TopP = Annotated[
    float,
    typer.Option(
        "--top-p", envvar="TIDEMILL_TOP_P", help="Keep the likeliest tokens of this total probability; 1: all."
    ),
]
MinP = Annotated[
    float,
    typer.Option(
        "--min-p", envvar="TIDEMILL_MIN_P", help="Drop tokens less likely than this share of the likeliest; 0: none."
    ),
]
RepeatPenalty = Annotated[
    float,
    typer.Option("--repeat-penalty", envvar="TIDEMILL_REPEAT_PENALTY", help="Above 1: tokens seen become less likely."),
]
Seed = Annotated[int, typer.Option("-s", "--seed", envvar="TIDEMILL_SEED", help="The same seed gives the same text.")]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", envvar="TIDEMILL_STOP", help="End before this text; may be given several times."),
]
Ram = Annotated[
    str,
    typer.Option(
        "--ram",
        envvar="TIDEMILL_RAM",
        help="Ceiling of the whole process tree: 600MiB, 8GB, auto (80 % of what is available) or none.",
    ),
]
Arena = Annotated[
    str | None,
    typer.Option(
        "--arena", envvar="TIDEMILL_ARENA", help="Fix the arena's size instead of taking what the ceiling leaves."
    ),
]
Load = Annotated[
    LoadModeChoice,
    typer.Option(
        "--load-mode",
        envvar="TIDEMILL_LOAD_MODE",
        help="direct bypasses the page cache; staged does so by way of huge pages.",
    ),
]
Launcher = Annotated[
    LauncherChoice, typer.Option("--launcher", envvar="TIDEMILL_LAUNCHER", help="A process per actor, or all in one.")
]
IoDepth = Annotated[int, typer.Option("--io-depth", envvar="TIDEMILL_IO_DEPTH", min=1, help="Reads under way at once.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="TIDEMILL_DEVICE",
        help="drive: as it is. emulate:CLASS[,key=value...]: slowed down to ufs-2.2, ufs-3.1, ufs-4.0, nvme-gen3, "
        "nvme-gen4, sata or sd-card (or none), with faults where you want some: docs/devices.md.",
    ),
]
VerifyReads = Annotated[
    bool,
    typer.Option(
        "--verify-reads/--no-verify-reads",
        envvar="TIDEMILL_VERIFY_READS",
        help="Check every read against its checksum; without, damaged weights are computed with.",
    ),
]
Restart = Annotated[
    bool | None,
    typer.Option(
        "--restart/--no-restart",
        envvar="TIDEMILL_RESTART",
        help="When an actor dies, start all of them again and go on behind the last token: the text stays the same. "
        "On by default; not with --select.",
    ),
]
Json = Annotated[bool, typer.Option("--json", envvar="TIDEMILL_JSON", help="One JSON object on stdout.")]
Csv = Annotated[Path | None, typer.Option("--csv", envvar="TIDEMILL_CSV", help="Write a row per token to this file.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", envvar="TIDEMILL_VERBOSE", help="More on stderr: the ledger, processes, tracebacks."
    ),
]
Codec = Annotated[
    CodecChoice,
    typer.Option(
        "--codec",
        envvar="TIDEMILL_CODEC",
        help="How weights are stored, always lossless. auto: bf16 in planes (12 bits a weight), others raw. zstd suits "
        "drives slower than decompression.",
    ),
]

Layout = Annotated[
    LayoutFlag,
    typer.Option(
        "--layout",
        envvar="TIDEMILL_LAYOUT",
        help="How the layers' weights are laid out. dense: for exact runs. The others are for --select: input-channel "
        "for topk, gate-first for gate, neuron for neuron.",
    ),
]
Group = Annotated[
    int,
    typer.Option(
        "--group",
        envvar="TIDEMILL_GROUP",
        min=1,
        help="With --layout input-channel: layers whose weights of a channel lie together, to be read at once.",
    ),
]
NeuronOrderFile = Annotated[
    Path | None,
    typer.Option(
        "--order",
        envvar="TIDEMILL_ORDER",
        help="Store neurons in the order of this file (safetensors, a tensor layer.N for each layer), or in one made "
        "from this trace (see --order-by).",
    ),
]
OrderBy = Annotated[
    OrderByChoice,
    typer.Option(
        "--order-by",
        envvar="TIDEMILL_ORDER_BY",
        help="With a trace: neurons by how often they were selected, or those that were selected together beside one "
        "another.",
    ),
]


class Opening(NamedTuple):
    """What a model is opened with, as given."""

    model: str
    ram: str
    arena: str | None
    context: int | None
    threads: int | None
    load_mode: str
    launcher: str
    io_depth: int
    selection: SelectionSpec | None = None
    residency: str = "lfu"
    quotas: str | None = None
    preload: str = "none"
    preload_share: float = 0.5
    traces: bool = False
    is_sparsity_searched: bool = False  # `selection` then says everything else
    worst_ratio: float | None = None  # of perplexity over the exact one, which that may cost
    hot_set: Path | None = None
    draft: str = "none"
    draft_length: int | None = None
    device: str = "drive"
    verify_reads: bool = True
    restart: bool | None = None

    @property
    def ram_or_none(self) -> str | None:
        return None if self.ram == "none" else self.ram


class SamplingFlags(NamedTuple):
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    seed: int
    stop: tuple[str, ...]
    max_tokens: int


def read_prompt(prompt: str | None, file: Path | None) -> str:
    """The prompt from exactly one of -p, -f and a pipe. Raises typer.BadParameter."""
    if prompt is not None and file is not None:
        raise typer.BadParameter("give the prompt with -p or with -f, not both")
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{file} cannot be read as UTF-8 text: {error}") from None
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        prompt = sys.stdin.read()
    if not prompt:
        raise typer.BadParameter("give a prompt with -p TEXT, -f FILE or through a pipe")
    return prompt
