"""Errors for users are known by name: the names are those of classes that exist."""

import subprocess
import sys
from importlib import import_module

import pytest

from tidemill.runtime.expected_errors import EXPECTED, is_expected
from tidemill.storage.errors import CorruptDataError


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_name_is_an_error_class_of_ours(name: str) -> None:
    module, _, kind = name.rpartition(".")
    found = getattr(import_module(module), kind)
    assert issubclass(found, Exception)
    assert is_expected(found("why"))
    assert is_expected(type("Special", (found,), {})("why"))


def test_what_users_give_and_what_the_system_refuses_is_expected_and_nothing_else() -> None:
    assert is_expected(ValueError("0"))
    assert is_expected(PermissionError("no"))
    assert is_expected(CorruptDataError("wrong"))
    assert not is_expected(TypeError("a bug"))
    assert not is_expected(AssertionError("a bug"))


@pytest.mark.slow
def test_asking_imports_no_library() -> None:
    program = (
        "import sys; from tidemill.runtime.expected_errors import is_expected; is_expected(TypeError()); "
        "print(sorted({'pyarrow', 'numpy', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
