"""A file of text as tokens, and what names it in results."""

from pathlib import Path

import typer

from tidemill.runtime.calibration.record import TextUsed
from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.checksums import digest
from tidemill.storage.manifest_file import load_manifest


def read_tokens(directory: Path, file: Path, limit: int | None) -> tuple[TextUsed, list[int]]:
    """The first `limit` tokens of a UTF-8 file, without special tokens. Raises typer.BadParameter, StorageError."""
    try:
        data = file.read_bytes()
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--text {file} cannot be read as UTF-8 text: {error}") from None
    tokenizer = TextTokenizer.open(directory, load_manifest(directory).decoder.bos_token_id)
    token_ids = tokenizer.encode(text, add_special_tokens=False)[:limit]
    return TextUsed(file.name, digest(data), len(token_ids)), token_ids
