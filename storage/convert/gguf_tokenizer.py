"""Rebuilds `tokenizer.json` from GGUF metadata with the tokenizers library."""

import json
from collections.abc import Mapping, Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tidemill.storage.convert.gguf_config import GgufMetadata
from tidemill.storage.errors import SourceError, StorageError, UnsupportedModelError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = ("llama-bpe", "llama3", "llama-v3")  # one pre-tokenizer under the names that its files use
SPLITS: Mapping[str, str] = {**dict.fromkeys(LLAMA3, WORDS % r"\p{N}{1,3}"), "qwen2": WORDS % r"\p{N}"}
BPE_KINDS = ("smollm", "gpt-2", "default", *SPLITS)


def build_tokenizer_files(metadata: GgufMetadata) -> dict[str, bytes]:
    """`tokenizer.json`, `tokenizer_config.json` and, where the file has one, `chat_template.jinja`."""
    tokens, kinds = _strings(metadata, "tokens"), _integers(metadata, "token_type")
    if len(tokens) != len(kinds) or not tokens:
        raise SourceError(f"the GGUF file has {len(tokens)} tokens and {len(kinds)} token types; it is damaged")
    try:
        tokenizer = _build(metadata, tokens)
        _add_tokens(tokenizer, tokens, kinds)
        _prepend_bos(metadata, tokenizer, tokens)
    except StorageError:
        raise
    except Exception as error:  # the tokenizers library raises plain Exception
        raise SourceError(f"the GGUF file's tokenizer is inconsistent: {error}"[:500]) from error
    files = {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": _config(metadata, tokens)}
    template = metadata.find("tokenizer.chat_template")
    if isinstance(template, str):
        files["chat_template.jinja"] = template.encode()
    return files


def _build(metadata: GgufMetadata, tokens: Sequence[str]) -> Tokenizer:
    model = metadata.get("tokenizer.ggml.model")
    if model == "gpt2":
        return _byte_level_bpe(metadata, tokens)
    if model == "llama":
        return _sentencepiece_bpe(metadata, tokens)
    raise UnsupportedModelError(f"GGUF tokenizer {model!r:.200} is not supported; supported: gpt2, llama")


def _byte_level_bpe(metadata: GgufMetadata, tokens: Sequence[str]) -> Tokenizer:
    kind = _pre_tokenizer(metadata)
    if kind not in BPE_KINDS:
        raise UnsupportedModelError(
            f"GGUF pre-tokenizer {kind!r:.200} is not supported; supported: {', '.join(BPE_KINDS)}"
        )
    merges = [tuple(merge.split(" ", 1)) for merge in _strings(metadata, "merges")]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=kind in LLAMA3))  # type: ignore[arg-type]
    if kind in SPLITS:
        split = pre_tokenizers.Split(Regex(SPLITS[kind]), behavior="isolated")
        steps = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    elif kind == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece_bpe(metadata: GgufMetadata, tokens: Sequence[str]) -> Tokenizer:
    """SentencePiece BPE: merges in the order of the merged pieces' scores, unknown characters as bytes."""
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens) or not all(isinstance(s, float) for s in scores):
        raise SourceError("the GGUF file's tokenizer has no score for each token; it is damaged")
    vocab = {token: i for i, token in enumerate(tokens)}
    merges = _merges(vocab, scores)
    unknown = metadata.find_token("unknown", len(tokens))
    unknown_token = tokens[unknown] if unknown is not None else None
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token=unknown_token, fuse_unk=True, byte_fallback=True)
    )
    replace = normalizers.Replace(" ", "▁")
    steps: list[decoders.Decoder] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.find("tokenizer.ggml.add_space_prefix") is not False:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = replace
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _merges(vocab: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    ranked: list[tuple[float, int, int, str, str]] = []
    for piece, rank in vocab.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocab and right in vocab:
                ranked.append((-scores[rank], vocab[left], vocab[right], left, right))
    ranked.sort()
    return [(left, right) for *_, left, right in ranked]


def _add_tokens(tokenizer: Tokenizer, tokens: Sequence[str], kinds: Sequence[int]) -> None:
    for special, wanted in ((True, (CONTROL, UNKNOWN)), (False, (USER_DEFINED,))):
        added = [
            AddedToken(token, special=special, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in wanted
        ]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)


def _adds_bos(metadata: GgufMetadata) -> bool:
    """Files that don't say: SentencePiece models begin with `bos`, and Llama 3's do."""
    flag = metadata.find("tokenizer.ggml.add_bos_token")
    if flag is not None:
        return bool(flag)
    return metadata.get("tokenizer.ggml.model") == "llama" or _pre_tokenizer(metadata) in LLAMA3


def _pre_tokenizer(metadata: GgufMetadata) -> str:
    return str(metadata.find("tokenizer.ggml.pre") or "default")


def _prepend_bos(metadata: GgufMetadata, tokenizer: Tokenizer, tokens: Sequence[str]) -> None:
    bos = metadata.find_token("bos", len(tokens))
    if _adds_bos(metadata) and bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A", pair=f"{tokens[bos]} $A {tokens[bos]} $B", special_tokens=[(tokens[bos], bos)]
        )


def _config(metadata: GgufMetadata, tokens: Sequence[str]) -> bytes:
    config: dict[str, object] = {"add_bos_token": _adds_bos(metadata)}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"), ("unk_token", "unknown")):
        token = metadata.find(f"tokenizer.ggml.{key}_token_id")
        if isinstance(token, int) and 0 <= token < len(tokens):
            config[name] = tokens[token]
    return json.dumps(config, indent=2, ensure_ascii=False).encode()


def _strings(metadata: GgufMetadata, name: str) -> list[str]:
    values = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise SourceError(f"tokenizer.ggml.{name} is not a list of texts; the GGUF file is damaged")
    return values


def _integers(metadata: GgufMetadata, name: str) -> list[int]:
    values = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        raise SourceError(f"tokenizer.ggml.{name} is not a list of whole numbers; the GGUF file is damaged")
    return values
