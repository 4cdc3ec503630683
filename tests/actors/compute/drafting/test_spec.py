import pytest

from tidemill.actors.compute.drafting.spec import DraftSpec, check_drafts


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (DraftSpec(kinds=("none", "planes")), "none, planes"),
        (DraftSpec(kinds=("ngram", "ngram")), "ngram, ngram"),
        (DraftSpec(kinds=("ngram",), most=16), "1 to 15"),
        (DraftSpec(kinds=("ngram",), most=4, fixed_length=5), "1 to 4"),
        (DraftSpec(kinds=("ngram",), fixed_length=0), "1 to 15"),
    ],
)
def test_what_cannot_be_drafted_is_refused(spec: DraftSpec, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_drafts(spec)


def test_what_can_be_drafted_is_taken() -> None:
    spec = DraftSpec(kinds=("ngram", "planes"), most=15, fixed_length=15)
    assert check_drafts(spec) is spec
