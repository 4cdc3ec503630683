"""Typed access to a JSON object that somebody else wrote."""

import math
from collections.abc import Mapping, Sequence

from tidemill.storage.decoder_rules import SIZE_MAX
from tidemill.storage.errors import UnsupportedModelError


class ConfigReader:
    """Every getter raises UnsupportedModelError naming the field when it is missing without a default, of a wrong type
    or out of range: what comes out can be computed with and allocated."""

    def __init__(self, config: Mapping[str, object]) -> None:
        self._config = config

    def find_count(self, name: str) -> int | None:
        """A size or an id, 0..SIZE_MAX."""
        value = self._config.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= SIZE_MAX):
            return value
        raise self._wrong(name, f"a whole number of 0..{SIZE_MAX}")

    def count(self, name: str, default: int | None = None) -> int:
        """A size, 1..SIZE_MAX."""
        value = self.find_count(name)
        value = default if value is None else value
        if not value:
            raise self._wrong(name, f"a whole number of 1..{SIZE_MAX}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number above 0: every scale, base and epsilon of a decoder is one."""
        value = self._config.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self._wrong(name, "a number above 0")
        return float(value)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._config.get(name)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._config.get(name)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def find_mapping(self, name: str) -> Mapping[str, object] | None:
        value = self._config.get(name)
        if value is None or isinstance(value, dict):
            return value
        raise self._wrong(name, "an object")

    def find_list(self, name: str) -> Sequence[object] | None:
        value = self._config.get(name)
        if value is None or isinstance(value, list):
            return value
        raise self._wrong(name, "a list")

    def find_ids(self, name: str) -> tuple[int, ...] | None:
        """One token id or a list of them, each once; None when the field is missing or null."""
        value = self._config.get(name)
        if value is None:
            return None
        ids = value if isinstance(value, list) else [value]
        if not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i <= SIZE_MAX for i in ids):
            raise self._wrong(name, "a token id or a list of token ids")
        return tuple(dict.fromkeys(ids))

    def _wrong(self, name: str, expected: str) -> UnsupportedModelError:
        # Cut: a hostile value may be as long as its file.
        value = f"{name} = {self._config[name]!r:.200}" if name in self._config else f"no {name}"
        return UnsupportedModelError(f"the model's configuration has {value}, expected {expected}")
