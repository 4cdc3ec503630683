"""Runs draft decoders by themselves."""

from collections.abc import Sequence

import numpy as np

from tidemill.actors.compute.drafting.draft_decoder import DraftDecoder

CHUNK = 4


def drafted_tokens(decoder: DraftDecoder, prompt: Sequence[int], count: int) -> list[int]:
    """Its greedy tokens, the prompt in chunks."""
    tokens: list[int] = []
    pending = [(start, prompt[start : start + CHUNK]) for start in range(0, len(prompt), CHUNK)]
    while len(tokens) < count:
        for start, token_ids in pending:
            lap = decoder.step(token_ids, start, want_logits="last")
            try:
                while True:
                    next(lap)
            except StopIteration as end:
                logits = end.value
        tokens.append(int(np.argmax(logits[-1])))
        pending = [(len(prompt) + len(tokens) - 1, tokens[-1:])]
    return tokens
