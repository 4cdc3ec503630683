"""Greedy decoding with llama-cpp-python through its default mmap; prints a JSON object. Run by a Python that has it.

argv: GGUF, prompt file, tokens, threads, context.
"""

import json
import sys
import time
from pathlib import Path

from llama_cpp import Llama


def main() -> None:
    path, prompt_file, tokens, threads, context = sys.argv[1:]
    begun = time.perf_counter()
    llm = Llama(path, n_ctx=int(context), n_threads=int(threads), n_threads_batch=int(threads), verbose=False)
    load_s = time.perf_counter() - begun
    prompt = llm.tokenize(Path(prompt_file).read_bytes())
    ids: list[int] = []
    times: list[float] = []
    begun = time.perf_counter()
    for token in llm.generate(prompt, temp=0.0, repeat_penalty=1.0):
        now = time.perf_counter()
        times.append(now - begun)
        begun = now
        ids.append(token)
        if len(ids) == int(tokens):
            break
    print(json.dumps({"load_s": load_s, "prompt_tokens": len(prompt), "token_ids": ids, "token_s": times}))


if __name__ == "__main__":
    main()
