"""One line at the terminal's bottom that changes in place while text flows above it."""

import shutil
import sys
import time

REFRESH_S = 0.2


class StatusLine:
    """Reserves the last row by a scroll region and gives it back in `close`. Does nothing when stderr is no
    terminal."""

    def __init__(self) -> None:
        self._active = sys.stderr.isatty()
        self._rows = 0
        self._shown_at = 0.0

    def show(self, text: str) -> None:
        now = time.monotonic()
        if not self._active or now - self._shown_at < REFRESH_S:
            return
        self._shown_at = now
        columns, rows = shutil.get_terminal_size()
        if rows != self._rows:
            self._reserve(rows)
        # save the cursor, go to the last row, clear it, write in reverse video, come back
        self._write(f"\0337\033[{rows};1H\033[2K\033[7m{text[: columns - 1]}\033[0m\0338")

    def close(self) -> None:
        if self._rows:
            self._write(f"\0337\033[{self._rows};1H\033[2K\033[r\0338")
            self._rows = 0

    def _reserve(self, rows: int) -> None:
        # A newline first, so that the row to be taken is empty (nothing is shown yet, the cursor is in column 0);
        # setting the region moves the cursor, hence save and restore.
        self._write(f"\n\033[1A\0337\033[1;{rows - 1}r\0338")
        self._rows = rows

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
