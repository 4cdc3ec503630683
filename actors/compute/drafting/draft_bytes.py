"""What drafting takes beside decoding, in bytes, whatever drafts."""

from tidemill.actors.compute.drafting.spec import MOST_DRAFTED
from tidemill.storage.decoder_spec import DecoderSpec

# Of each token of the context: the index of its n-grams (a few dictionary entries), and the token itself.
INDEX_BYTES = 512


def draft_bytes(spec: DecoderSpec, context: int) -> int:
    """The index of n-grams, and exact logits of every position of a check, f32 [1 + MOST_DRAFTED, vocab]."""
    return INDEX_BYTES * context + 4 * (1 + MOST_DRAFTED) * spec.vocab_size
