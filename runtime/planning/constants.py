"""What the planner takes as given: small times that were measured once and are alike on most machines, and the rates
that stand in until `tidemill tune` has measured this one. All from 2 cores of a 2.6 GHz server part."""

from collections.abc import Mapping
from types import MappingProxyType

from tidemill.actors.compute.drafting.spec import DraftKind
from tidemill.actors.compute.selection.operators import InputKind
from tidemill.runtime.planning.rates import RATES_VERSION, FlashPoint, FlashRates, KernelRates, MachineRates

MIB = 1 << 20

# From the command to the moment a prompt is taken: imports, four processes, kernels from their cache (1.0 to 1.3 s).
COLD_START_S = 1.2
# The end of that: the reader loads locked weights already, while the tokenizer is opened.
LOAD_AHEAD_S = 0.1
# Per layer and pass: norms, rope, attention's calls and the Python between kernels.
LAYER_OVERHEAD_S = 40e-6
# Per token: sampling, messages between engine and compute, text. Only the next token's reads run on beside it.
TOKEN_OVERHEAD_S = 2.0e-3
# Core time of one read of 0.5 to 1 MiB: reader 0.19 ms, arena 0.11 ms, messages and shorter kernel calls in compute
# 0.15 ms. The kernels lack it.
READ_CORE_S = 0.45e-3
# Of that, what the reader's interpreter lock lets no two reads do at once: a bound beside very fast drives.
READER_READ_S = 0.1e-3
# Decoded bytes per second and core of codecs that are undone in the reader's threads, before bytes reach the arena.
DECODE_BYTES_PER_S: Mapping[str, float] = MappingProxyType({"zstd": 1.0e9})

# Runs that read single bundles. Fitted, where it says so, to runs on that machine by `benchmarks/planner_accuracy.py
# --select`, whose last row says what they would be on this one.
# From the moment that compute asks for a table's bundles until it goes on with them, nothing being read: four messages
# and wake-ups, the residency's look-up (fitted), and for each bundle its part of packing and looking up.
VISIT_S = 0.25e-3
VISIT_BUNDLE_S = 0.1e-6
# Core time around a visit's kernels: choosing, listing places (fitted), and for each bundle.
CHOICE_S = 0.06e-3
CHOICE_BUNDLE_S = 0.1e-6
# What demands take in a run, over what gathers alone were measured to take, as the actors share the cores; and what
# kernels take over the rate that they have on large tables. 1 until runs of this machine say otherwise.
DEMAND_RATIO = 1.0
KERNEL_RATIO = 1.0
# Of one read of single bundles, where `tidemill tune` has measured no model that has such; and of one bundle, whatever
# its bytes. That isn't measured: bundles and bytes grow together, and a fit would give one what is the other's.
GATHER_READ_S = 12e-6
GATHER_BUNDLE_S = 0.5e-6
# How far predictions of the next layer group see, as the correlation with what is selected then, of what the cache
# lacks: by kind of input, where the group is the next layer (SmolLM2-135M, top-k at 50 %, docs/decisions/0015)...
PRELOAD_SKILL: Mapping[InputKind, float] = MappingProxyType(
    {"qkv": 0.65, "gate_up": 0.65, "o": 0.45, "down": 0.13, "gate": 0.75, "neuron": 0.75}
)
# ...and by the layers of a group, of inputs that read the residual stream: what is left of that.
SKILL_LEFT: Mapping[int, float] = MappingProxyType({1: 1.0, 2: 0.88, 4: 0.76, 8: 0.65})

# Drafts. What kernels of plane 0 alone are called among the rates, behind the kind of the table.
COARSE = ":plane-0"
# Share of drafted tokens that are right. Planes: measured on SmolLM2-135M-Instruct. Other models: at the low end of
# what is published (Leviathan, Kalman, Matias, ICML 2023: 0.5 to 0.9). That of n-grams is the text's.
ACCEPTANCE: Mapping[DraftKind, float] = MappingProxyType({"planes": 0.93, "model": 0.6})

# A cell's processes before anything is allocated, as seen with models of 0.1 to 2 B parameters.
DEFAULT_PROCESSES: Mapping[str, int] = MappingProxyType(
    {"engine": 88 * MIB, "compute": 138 * MIB, "reader": 22 * MIB, "arena": 22 * MIB, "predictor": 22 * MIB}
)
DEFAULT_FLASH_BYTES_PER_S = 1.0e9
DEFAULT_DRAM_BYTES_PER_S = 20e9
DEFAULT_KERNEL_BYTES_PER_S = 15e9
DEFAULT_FLOP_PER_S = 40e9


def flat_flash(bytes_per_s: float, source: str) -> FlashRates:
    """A drive that is equally fast at every request size and depth."""
    return FlashRates(source=source, load_mode="direct", points=(FlashPoint(MIB, 1, bytes_per_s),))


def default_rates(threads: int) -> MachineRates:
    """Cautious rates for a machine that nothing is known of."""
    return MachineRates(
        version=RATES_VERSION,
        host="unknown",
        cpu="unknown",
        threads=threads,
        file_system="unknown",
        measured_at="never",
        flash=flat_flash(DEFAULT_FLASH_BYTES_PER_S, "assumed"),
        dram_bytes_per_s=DEFAULT_DRAM_BYTES_PER_S,
        kernels=KernelRates(bytes_per_s={"bf16": DEFAULT_KERNEL_BYTES_PER_S}, flop_per_s={8: DEFAULT_FLOP_PER_S}),
    )
