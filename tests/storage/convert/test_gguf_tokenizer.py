import pytest
from tokenizers import Tokenizer

from tidemill.storage.convert.gguf_config import GgufMetadata
from tidemill.storage.convert.gguf_tokenizer import BYTE, CONTROL, NORMAL, UNKNOWN, build_tokenizer_files
from tidemill.storage.errors import SourceError, UnsupportedModelError

BYTES = [f"<0x{i:02X}>" for i in range(256)]
PIECES = ["▁", "a", "b", "c", "ab", "▁a", "▁ab", "abc", "▁abc"]


def sentencepiece(**changes: object) -> GgufMetadata:
    tokens = ["<unk>", "<s>", "</s>", *BYTES, *PIECES]
    scores = [0.0] * 259 + [-9.0, -9.0, -9.0, -9.0, -3.0, -2.0, -1.0, -4.0, -5.0]
    values: dict[str, object] = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [UNKNOWN, CONTROL, CONTROL, *([BYTE] * 256), *([NORMAL] * len(PIECES))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 0,
        **changes,
    }
    return GgufMetadata(values)


def byte_level(pre: str, **changes: object) -> GgufMetadata:
    alphabet = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    tokens = [*alphabet, "12", "123"]
    values: dict[str, object] = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [NORMAL] * len(tokens),
        "tokenizer.ggml.merges": ["1 2", "12 3"],
        **changes,
    }
    return GgufMetadata(values)


def build(metadata: GgufMetadata) -> Tokenizer:
    return Tokenizer.from_str(build_tokenizer_files(metadata)["tokenizer.json"].decode())


def test_sentencepiece_merges_by_score_falls_back_to_bytes_and_prepends() -> None:
    tokenizer = build(sentencepiece())
    assert tokenizer.encode("abc").tokens == ["<s>", "▁abc"]
    assert tokenizer.encode("ab é", add_special_tokens=False).tokens == ["▁ab", "▁", "<0xC3>", "<0xA9>"]
    for text in ("abc", "ab é c", "  a  "):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_model_without_space_prefix_keeps_texts_as_they_are() -> None:
    tokenizer = build(
        sentencepiece(**{"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": False})
    )
    assert tokenizer.encode("ab").tokens == ["ab"]
    assert tokenizer.decode(tokenizer.encode("ab c").ids) == "ab c"


@pytest.mark.parametrize(("pre", "count"), [("smollm", 5), ("qwen2", 5), ("llama-bpe", 2), ("gpt-2", 2)])
def test_each_pre_tokenizer_splits_digits_as_its_model_does(pre: str, count: int) -> None:
    tokenizer = build(byte_level(pre))
    encoded = tokenizer.encode("12312")
    # smollm and qwen2: every digit alone; llama-bpe: groups of three (123, 12); gpt-2: one word, merged as far as
    # merges go
    assert len(encoded.ids) == count
    assert tokenizer.decode(tokenizer.encode("It's  12312 ünï\n\n x").ids) == "It's  12312 ünï\n\n x"


@pytest.mark.parametrize(
    ("metadata", "error", "says"),
    [
        (byte_level("tekken"), UnsupportedModelError, "'tekken' is not supported; supported: smollm"),
        (sentencepiece(**{"tokenizer.ggml.model": "t5"}), UnsupportedModelError, "'t5' is not supported"),
        (sentencepiece(**{"tokenizer.ggml.scores": [1.0]}), SourceError, "no score for each token"),
        (sentencepiece(**{"tokenizer.ggml.tokens": []}), SourceError, "damaged"),
        (sentencepiece(**{"tokenizer.ggml.token_type": ["a"]}), SourceError, "not a list of whole numbers"),
    ],
)
def test_a_tokenizer_that_cannot_be_rebuilt_says_why(metadata: GgufMetadata, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        build_tokenizer_files(metadata)


@pytest.mark.parametrize(
    ("pre", "added"), [("llama-bpe", True), ("llama3", True), ("smollm", False), ("qwen2", False), ("gpt-2", False)]
)
def test_a_file_that_does_not_say_begins_texts_as_its_model_does(pre: str, added: bool) -> None:
    metadata = byte_level(pre, **{"tokenizer.ggml.bos_token_id": 0})
    assert build(metadata).encode("12").tokens == (["!", "12"] if added else [*SPLIT[pre]])
    assert build(byte_level(pre, **{"tokenizer.ggml.add_bos_token": False})).encode("12").tokens == SPLIT[pre]


SPLIT = {"llama-bpe": ["12"], "llama3": ["12"], "smollm": ["1", "2"], "qwen2": ["1", "2"], "gpt-2": ["12"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer.ggml.merges": ["12"]},
        {"tokenizer.ggml.merges": ["1 x2"]},
        {"tokenizer.ggml.merges": ["1 missing"]},
        {"tokenizer.ggml.bos_token_id": 1 << 31, "tokenizer.ggml.add_bos_token": True},
        {"tokenizer.ggml.bos_token_id": -1, "tokenizer.ggml.add_bos_token": True},
    ],
)
def test_merges_and_ids_that_fit_no_token_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SourceError, match=r"inconsistent|expected 0\.\."):
        build_tokenizer_files(byte_level("gpt-2", **changes))


@pytest.mark.parametrize("changes", [{"tokenizer.ggml.scores": ["a"] * 268}, {"tokenizer.ggml.unknown_token_id": 4000}])
def test_sentencepiece_values_that_fit_no_token_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SourceError, match="damaged"):
        build_tokenizer_files(sentencepiece(**changes))
