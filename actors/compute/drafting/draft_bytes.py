"""What drafting takes beside decoding, in bytes, whatever drafts."""

from tidemill.actors.compute.drafting.ngram import BYTES_PER_POSITION
from tidemill.actors.compute.drafting.spec import MOST_DRAFTED
from tidemill.storage.decoder_spec import DecoderSpec

LOOK_BYTES = 16  # of each position of the history, while n-grams are looked for


def draft_bytes(spec: DecoderSpec, context: int) -> int:
    """What n-grams are found in, and exact logits of every position of a check, f32 [1 + MOST_DRAFTED, vocab]."""
    return (BYTES_PER_POSITION + LOOK_BYTES) * context + 4 * (1 + MOST_DRAFTED) * spec.vocab_size
