"""`tidemill stress soak` refuses in one line what it cannot do."""

import pytest
from typer.testing import CliRunner

from tidemill.runtime.cli.main import app


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("-m", "none-such"), "there is no model 'none-such'"), (("--runtime", "soon"), "soon")],
)
def test_what_cannot_be_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["stress", "soak", *arguments])
    assert result.exit_code == 1
    assert said in result.stderr
