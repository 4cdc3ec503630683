"""One row per token, with a preamble that says what the figures were taken with."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tidemill.runtime.cli.flags import Opening, SamplingFlags
from tidemill.runtime.events import TokenGenerated
from tidemill.runtime.summary import Summary
from tidemill.storage.atomic_file import write_atomically


def write_token_csv(
    path: Path, tokens: Sequence[TokenGenerated], summary: Summary, opening: Opening, sampling: SamplingFlags
) -> None:
    """`#` lines, a header, a row per token (the first one's time is the prompt's), a `# summary` line: all of it or,
    where a file cannot be written whole, none. Raises OSError."""
    text = io.StringIO(newline="")
    text.write(f"# tidemill {summary.version}\n")
    text.write(f"# opening {opening._asdict()}\n# sampling {sampling._asdict()}\n")
    text.write(
        f"# arena_bytes {summary.arena_bytes} locked_bytes {summary.locked_bytes} load_mode {summary.load_mode}\n"
    )
    rows = csv.writer(text)
    rows.writerow(["index", "token_id", "elapsed_ns", "compute_ns", "stall_ns", "flash_bytes"])
    for index, token in enumerate(tokens):
        rows.writerow([index, token.token_id, token.elapsed_ns, token.compute_ns, token.stall_ns, token.flash_bytes])
    text.write(f"# summary decode_s_per_token {summary.decode_s_per_token} ttft_s {summary.ttft_s}\n")
    data = text.getvalue().encode()
    if path.exists() and not path.is_file():  # /dev/stdout, a FIFO: nothing takes their place
        path.write_bytes(data)
    else:
        write_atomically(path, data)
