"""The flags of drafts, shared by verbs."""

from typing import Annotated

import typer

from tidemill.actors.compute.drafting.spec import MOST_DRAFTED

Draft = Annotated[
    str,
    typer.Option(
        "--draft",
        envvar="TIDEMILL_DRAFT",
        help="Who proposes tokens that the exact model then checks several at a time: faster, and never another text. "
        "auto: whatever pays; ngram: what followed the same words before; planes: the model's own upper bits, kept in "
        "DRAM; model:PATH: a smaller model of the same vocabulary; none.",
    ),
]
DraftLength = Annotated[
    int | None,
    typer.Option(
        "--draft-length",
        envvar="TIDEMILL_DRAFT_LENGTH",
        min=1,
        max=MOST_DRAFTED,
        help="Draft so many tokens in each pass, whatever pays.",
    ),
]
