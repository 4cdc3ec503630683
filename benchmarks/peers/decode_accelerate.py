"""Greedy decoding with transformers, what doesn't fit on disk by Accelerate; prints a JSON object.

argv: Hugging Face directory, prompt file, tokens, threads, ceiling in bytes (0: none), folder for offloaded weights.
"""

import json
import resource
import sys
import time
from pathlib import Path

import accelerate  # noqa: F401  # what device_map needs; asked for here, so that a lack of it is said first
import torch
import transformers

HEADROOM_BYTES = 256 << 20  # of the ceiling for one offloaded layer, activations and what loading takes besides


def main() -> None:
    directory, prompt_file, tokens, threads, ceiling, folder = sys.argv[1:]
    torch.set_num_threads(int(threads))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + HEADROOM_BYTES
    memory = {"cpu": max(0, int(ceiling) - own)} if int(ceiling) else None
    begun = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=torch.bfloat16,
        device_map="auto" if memory else "cpu",
        max_memory=memory,
        offload_folder=folder,
    ).eval()
    load_s = time.perf_counter() - begun
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(Path(directory) / "tokenizer.json"))
    prompt = tokenizer(Path(prompt_file).read_text(encoding="utf-8"))["input_ids"]
    ids: list[int] = []
    times: list[float] = []
    step, cache = torch.tensor([prompt]), None
    begun = time.perf_counter()
    with torch.inference_mode():
        while len(ids) < int(tokens):
            output = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, step = output.past_key_values, output.logits[:, -1:].argmax(-1)
            ids.append(int(step))
            now = time.perf_counter()
            times.append(now - begun)
            begun = now
    print(json.dumps({"load_s": load_s, "prompt_tokens": len(prompt), "token_ids": ids, "token_s": times}))


if __name__ == "__main__":
    main()
