"""One row per token, with a preamble that says what the figures were taken with."""

import csv
from collections.abc import Sequence
from pathlib import Path

from tidemill.runtime.cli.flags import Opening, SamplingFlags
from tidemill.runtime.events import TokenGenerated
from tidemill.runtime.summary import Summary


def write_token_csv(
    path: Path, tokens: Sequence[TokenGenerated], summary: Summary, opening: Opening, sampling: SamplingFlags
) -> None:
    """`#` lines, a header, a row per token (the first one's time is the prompt's), a `# summary` line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# tidemill {summary.version}\n")
        file.write(f"# opening {opening._asdict()}\n# sampling {sampling._asdict()}\n")
        file.write(
            f"# arena_bytes {summary.arena_bytes} locked_bytes {summary.locked_bytes} load_mode {summary.load_mode}\n"
        )
        rows = csv.writer(file)
        rows.writerow(["index", "token_id", "elapsed_ns", "compute_ns", "stall_ns", "flash_bytes"])
        for index, token in enumerate(tokens):
            rows.writerow(
                [index, token.token_id, token.elapsed_ns, token.compute_ns, token.stall_ns, token.flash_bytes]
            )
        file.write(f"# summary decode_s_per_token {summary.decode_s_per_token} ttft_s {summary.ttft_s}\n")
