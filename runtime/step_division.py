"""What one step took, told of each token that it gave."""

from collections.abc import Sequence

from tidemill.actors.counters import Counter, Counters
from tidemill.actors.messages import TokensSampled
from tidemill.actors.packing import unpack_checksums, unpack_tokens
from tidemill.runtime.events import DraftedPass, Gathers, TokenGenerated


def divide_step(done: TokensSampled, elapsed_ns: int, counted: Counters) -> Sequence[TokenGenerated]:
    """Times and bytes in equal parts, which add up. `counted`: by how much the counters rose meanwhile."""
    tokens, checksums = unpack_tokens(done.token_ids), unpack_checksums(done.checksums)
    flash_bytes = int(counted[Counter.FLASH_BYTES])

    def part(whole: int, place: int) -> int:
        return whole * (place + 1) // len(tokens) - whole * place // len(tokens)

    def counter(number: Counter, place: int) -> int:
        return part(int(counted[number]), place)

    drafted = DraftedPass(
        kind=done.draft,
        drafted=done.drafted,
        accepted=len(tokens) - 1,
        draft_ns=done.draft_ns,
        check_ns=elapsed_ns - done.draft_ns,
        stall_ns=done.stall_ns,
        compute_ns=done.compute_ns,
        flash_bytes=flash_bytes,
    )
    return [
        TokenGenerated(
            token,
            part(elapsed_ns, i),
            part(done.compute_ns, i),
            part(done.stall_ns, i),
            flash_bytes=part(flash_bytes, i),
            flash_reads=counter(Counter.FLASH_READS, i),
            flash_busy_ns=counter(Counter.FLASH_BUSY_NS, i),
            gathers=Gathers(
                counter(Counter.GATHER_READS, i),
                counter(Counter.GATHER_READ_BYTES, i),
                counter(Counter.GATHERED_BYTES, i),
            ),
            logits_checksum=checksum,
            drafted_pass=drafted if i == 0 and done.draft else None,
        )
        for i, (token, checksum) in enumerate(zip(tokens, checksums, strict=True))
    ]
