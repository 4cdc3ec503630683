from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tidemill.runtime.text.tokenizer import TextTokenizer
from tidemill.storage.errors import FormatError


def byte_tokenizer() -> TextTokenizer:
    """Every byte a token: the hardest case for streaming text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return TextTokenizer(tokenizer, {}, None)


@given(text=st.text(max_size=30), prompt=st.text(max_size=10))
def test_streamed_pieces_add_up_and_never_split_a_character(text: str, prompt: str) -> None:
    tokenizer = byte_tokenizer()
    stream = tokenizer.stream(tokenizer.encode(prompt, add_special_tokens=False))
    pieces = [stream.add(token) for token in tokenizer.encode(text, add_special_tokens=False)]
    assert "".join(pieces) == text


def test_a_bos_is_added_once_when_the_configuration_asks_for_it() -> None:
    plain = byte_tokenizer()
    tokenizer = TextTokenizer(plain._tokenizer, {"add_bos_token": True}, 7)
    ids = plain.encode("ab", add_special_tokens=True)
    assert tokenizer.encode("ab", add_special_tokens=True) == [7, *ids]
    assert tokenizer.encode("ab", add_special_tokens=False) == ids


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(FormatError, match=r"tokenizer.json cannot be read"):
        TextTokenizer.open(tmp_path, None)
