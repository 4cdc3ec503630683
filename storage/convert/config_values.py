"""Typed access to a JSON object that somebody else wrote."""

from collections.abc import Mapping, Sequence

from tidemill.storage.errors import UnsupportedModelError


class ConfigReader:
    """Every getter raises UnsupportedModelError naming the field when it is missing without a default or of a wrong
    type."""

    def __init__(self, config: Mapping[str, object]) -> None:
        self._config = config

    def find_count(self, name: str) -> int | None:
        value = self._config.get(name)
        if isinstance(value, list) and value and isinstance(value[0], int):
            value = value[0]
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._wrong(name, "a whole number")

    def count(self, name: str, default: int | None = None) -> int:
        value = self.find_count(name)
        value = default if value is None else value
        if value is None:
            raise self._wrong(name, "a whole number")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._config.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "a number")
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

    def _wrong(self, name: str, expected: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"the model's configuration has {name} = {self._config.get(name)!r}, expected {expected}"
        )
