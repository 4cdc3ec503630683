"""Numbers that JSON cannot hold but a conversion could come by; the rest of the rules: test_manifest_file.py."""

import math

import msgspec
import pytest

from tests.fakes.models import TINY
from tidemill.storage.decoder_rules import check_decoder
from tidemill.storage.decoder_spec import Rope, RopeScaling
from tidemill.storage.errors import FormatError


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["norm_eps", "norm_weight_offset", "embed_scale", "attention_scale"])
def test_a_scale_that_is_no_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(FormatError, match=f"decoder.{name} is {value}"):
        check_decoder(msgspec.structs.replace(TINY, **{name: value}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_rope_that_is_no_number_is_refused(value: float) -> None:
    for rope in (Rope(theta=value), Rope(theta=1e4, scaling=RopeScaling("linear", value))):
        with pytest.raises(FormatError, match=f"is {value}, expected a positive finite number"):
            check_decoder(msgspec.structs.replace(TINY, rope=rope))


def test_what_conversions_write_passes() -> None:
    check_decoder(msgspec.structs.replace(TINY, rope=Rope(theta=5e5, scaling=RopeScaling("llama3", 32.0))))
    check_decoder(msgspec.structs.replace(TINY, rope=Rope(theta=1e6, scaling=RopeScaling("linear", 8.0))))
