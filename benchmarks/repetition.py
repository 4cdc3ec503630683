"""How repetitive a continuation is: what a draft by suffix match could have found, and a degenerate text shows."""

from collections.abc import Sequence

RUN = 4


def seen_share(prompt: Sequence[int], continuation: Sequence[int], run: int = RUN) -> float:
    """Of the continuation's tokens, those that end a run of `run` tokens which came before: in the prompt, in what was
    continued, or across both."""
    tokens = [*prompt, *continuation]
    seen: set[tuple[int, ...]] = set()
    count = 0
    for stop in range(run, len(tokens) + 1):
        last = tuple(tokens[stop - run : stop])
        count += stop > len(prompt) and last in seen
        seen.add(last)
    return count / max(1, len(continuation))
