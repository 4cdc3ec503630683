"""Small random checkpoints of every family, written by transformers itself."""

import gc
import threading
from collections.abc import Mapping
from pathlib import Path

import torch
import tqdm
import transformers

from tests.fakes.models import tokenizer_json

tqdm.tqdm.monitor_interval = 0  # transformers' progress bars would leave a thread behind

VOCAB = 199
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": VOCAB - 1,
    "pad_token_id": 0,
}


def _rope(kind: str, **values: float) -> dict[str, object]:
    return {"rope_type": kind, "rope_theta": 10000.0, **values}


def configurations() -> Mapping[str, transformers.PretrainedConfig]:
    """One configuration for each thing that a family may ask of the decoder."""
    llama3 = _rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    local = {
        "sliding_attention": _rope("default"),
        "full_attention": {**_rope("linear", factor=4.0), "rope_theta": 1e6},
    }
    return {
        "llama-2": transformers.LlamaConfig(**SIZES, tie_word_embeddings=False),
        "llama-3": transformers.LlamaConfig(**SIZES, rope_parameters=llama3, tie_word_embeddings=False),
        "llama-linear": transformers.LlamaConfig(**SIZES, rope_parameters=_rope("linear", factor=2.0)),
        "llama-biased": transformers.LlamaConfig(**SIZES, attention_bias=True, tie_word_embeddings=False),
        "smollm2": transformers.LlamaConfig(**SIZES, tie_word_embeddings=True),
        "mistral": transformers.MistralConfig(**SIZES, sliding_window=16, head_dim=24, tie_word_embeddings=False),
        "qwen2": transformers.Qwen2Config(**SIZES, tie_word_embeddings=True),
        "qwen2-windows": transformers.Qwen2Config(
            **SIZES, use_sliding_window=True, sliding_window=16, max_window_layers=1, tie_word_embeddings=False
        ),
        "qwen3": transformers.Qwen3Config(**SIZES, head_dim=32, tie_word_embeddings=True),
        "gemma3": transformers.Gemma3TextConfig(
            **SIZES,
            head_dim=32,
            query_pre_attn_scalar=48,
            sliding_window=16,
            rope_parameters=local,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
    }


def save_checkpoint(directory: Path, name: str, dtype: torch.dtype) -> None:
    """A seeded random checkpoint.

    Weights are larger than transformers' initialisation, norms and biases are moved off 1 and 0: a part that is left
    out shows.
    """
    torch.manual_seed(7)
    config = configurations()[name]
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * (1.0 if "embed" in parameter_name else 0.15))
    model.to(dtype).save_pretrained(directory)
    (directory / "tokenizer.json").write_bytes(tokenizer_json(VOCAB))


def write_checkpoint(directory: Path, name: str, dtype: torch.dtype) -> transformers.PreTrainedModel:
    """`save_checkpoint`; the model in eval mode, computing in float32."""
    save_checkpoint(directory, name, dtype)
    # Loaded again: `to(dtype)` has rounded the rotary frequencies too, which are no weights.
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )
    gc.collect()  # its thread pools are left to end by themselves, which the guard of the next test would see
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(10.0)
    return loaded.eval()
