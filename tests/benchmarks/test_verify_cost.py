from pathlib import Path

import pytest

from benchmarks.verify_cost import Case, Digest, Pair, parse_case, summarise
from tests.fakes.models import write_tiny_model


def test_the_cost_is_that_of_a_rounds_pair() -> None:
    """The second round ran on a machine that was twice as slow: its pair says the same as the first's."""
    pairs = [Pair(0.105, 0.10, 2e6), Pair(0.21, 0.20, 2e6), Pair(0.12, 0.10, 4e6)]
    case = Case(Path("/models/m"), "400MiB", ("topk", "0.5"))
    found = summarise(case, "drive", pairs, Digest(2e10, 4e10, 2), tokens=8)
    assert (found.cost, found.least, found.most) == pytest.approx((0.05, 0.05, 0.2))
    assert (found.bytes_per_token, found.digest_s_per_token) == (2e6, 1e-4)
    assert (found.model, found.selection) == ("m", "topk 0.5")


def test_a_case_is_a_model_a_ceiling_and_perhaps_a_selection(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "m")
    assert parse_case(f"{tmp_path / 'm'}=300MiB") == Case(tmp_path / "m", "300MiB", None)
    assert parse_case(f"{tmp_path / 'm'}") == Case(tmp_path / "m", "none", None)
    flags = parse_case(f"{tmp_path / 'm'}=1GiB,gate,0.3").flags
    assert flags[2:] == ["--ram", "1GiB", "--select", "gate", "--sparsity", "0.3"]
    with pytest.raises(SystemExit, match="POLICY,SPARSITY"):
        parse_case(f"{tmp_path / 'm'}=1GiB,gate")
