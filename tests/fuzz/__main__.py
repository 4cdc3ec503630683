"""`python -m tests.fuzz [SECONDS]` runs all targets; `python -m tests.fuzz TARGET CORPUS [-max_total_time=…]` one."""

import importlib
import sys
from pathlib import Path

from tests.fuzz.campaign import TARGETS, run_campaign

DEFAULT_SECONDS = 30
WATCHED = {
    "calibration": ["tidemill.runtime.calibration"],
    "chat_template": ["tidemill.runtime.text", "jinja2"],
    "codecs": ["tidemill.storage.codecs"],
    "control": ["tidemill.runtime.control", "tidemill.runtime.cell_spec"],
    "gguf_file": ["tidemill.storage.convert"],
    "links": ["tidemill.runtime.links", "tidemill.actors.packing"],
    "manifest": ["tidemill.storage.manifest_file", "tidemill.storage.manifest_rules", "tidemill.storage.decoder_rules"],
    "ring": ["tidemill.runtime.ring"],
    "safetensors_file": ["tidemill.storage.convert"],
    "shard": ["tidemill.storage.shard_reader", "tidemill.storage.deep_check"],
    "source_config": ["tidemill.storage.convert"],
    "trace": ["tidemill.storage.trace"],
}


def fuzz(name: str, arguments: list[str]) -> None:
    """Ends the process. What is watched must not have been imported before."""
    import atheris

    with atheris.instrument_imports(include=WATCHED[name]):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    if arguments and not arguments[0].startswith("-"):
        for index, seed in enumerate(target.seeds()):
            (Path(arguments[0]) / f"seed-{index}").write_bytes(seed)
    atheris.Setup([f"tests.fuzz {name}", *arguments], target.check)
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    if arguments and arguments[0] in TARGETS:
        fuzz(arguments[0], arguments[1:])
        return 0
    if arguments and not arguments[0].isdecimal():
        print(f"no target {arguments[0]!r}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    return run_campaign(int(arguments[0]) if arguments else DEFAULT_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
