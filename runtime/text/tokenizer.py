"""Text to token ids and back, over the tokenizers library and the model's own files."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from tidemill.storage.errors import FormatError
from tidemill.storage.model_files import check_model_file, read_model_file

TOKENIZER_BYTES_MAX = 256 << 20


class TextTokenizer:
    """Whether a text begins with a bos token is the tokenizer's own business (`tokenizer.json`, `add_bos_token`)."""

    def __init__(self, tokenizer: Tokenizer, config: dict[str, object], bos_token_id: int | None) -> None:
        self._tokenizer = tokenizer
        self.config = config
        self._bos = bos_token_id if config.get("add_bos_token") is True else None

    @classmethod
    def open(cls, directory: Path, bos_token_id: int | None) -> "TextTokenizer":
        """Raises FormatError when the model's tokenizer cannot be read."""
        path, config_path = directory / "tokenizer.json", directory / "tokenizer_config.json"
        size = check_model_file(directory, path.name)
        if size > TOKENIZER_BYTES_MAX:
            raise FormatError(f"{path} has {size} bytes, at most {TOKENIZER_BYTES_MAX} are allowed; it is none of ours")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001  # the library raises plain Exception
            raise FormatError(f"{path} cannot be read: {error}; convert or pull the model again") from None
        data = read_model_file(directory, config_path.name, bytes_max=TOKENIZER_BYTES_MAX)
        try:
            config = {} if data is None else json.loads(data)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{config_path} is not valid JSON: {error}; convert or pull the model again") from None
        return cls(tokenizer, config if isinstance(config, dict) else {}, bos_token_id)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        ids = list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)
        if add_special_tokens and self._bos is not None and ids[:1] != [self._bos]:
            ids.insert(0, self._bos)
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Without special tokens."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def stream(self, prompt_ids: Sequence[int]) -> "TextStream":
        return TextStream(self._tokenizer, prompt_ids)


class TextStream:
    """Turns tokens into text as they come; bytes of an unfinished character are held back until it is whole."""

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # The prompt's end is context: whether a first word keeps its leading space depends on what stands before it.
        self._stream = DecodeStream(list(prompt_ids[-8:]), skip_special_tokens=True)

    def add(self, token_id: int) -> str:
        """The text that this token completes; may be empty."""
        self._ids.append(token_id)
        return self._stream.step(self._tokenizer, token_id) or ""
