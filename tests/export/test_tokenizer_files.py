"""The made-up tokenizer: CLIP's form and ids, through transformers' own CLIP tokenizer."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kdexport.export.tokenizer_files import END, START, byte_symbols, learn_merges, write_tokenizer
from transformers import CLIPTokenizer

FULL, NARROW = 49408, 1024


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    def tokenizer(vocab_size=FULL, pad=END):
        folder = tmp_path_factory.mktemp("tokenizer")
        write_tokenizer(folder, vocab_size, pad)
        return CLIPTokenizer.from_pretrained(folder)

    return tokenizer


@pytest.fixture(scope="module")
def tokenizer(load):
    return load()


@pytest.mark.parametrize(
    ("vocab_size", "pad", "pad_id"), [(FULL, END, 49407), (FULL, "!", 0), (NARROW, "!", 0)]
)
def test_special_ids(load, vocab_size, pad, pad_id):
    tokenizer = load(vocab_size, pad)
    assert tokenizer.bos_token_id == vocab_size - 2
    assert tokenizer.eos_token_id == vocab_size - 1
    assert tokenizer.pad_token_id == pad_id
    assert tokenizer.model_max_length == 77
    ids = tokenizer("photo", padding="max_length").input_ids
    assert len(ids) == 77
    assert ids[0] == vocab_size - 2
    assert ids[2:] == [vocab_size - 1] + 74 * [pad_id]


def test_the_first_ids_are_those_of_clip(tokenizer):
    """Ids that every CLIP vocabulary has: `!` 0, `a` 64 (byte 0x61), `!</w>` 256, `a</w>` 320."""
    ids = tokenizer.convert_tokens_to_ids(["!", "a", "!</w>", "a</w>", START, END])
    assert ids == [0, 64, 256, 320, 49406, 49407]


def test_a_narrow_vocabulary_has_every_id_once(tmp_path):
    write_tokenizer(tmp_path, NARROW, END)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert sorted(vocabulary.values()) == list(range(NARROW))


def test_the_smallest_vocabulary_has_no_merges(tmp_path):
    write_tokenizer(tmp_path, 514, END)
    assert (tmp_path / "merges.txt").read_text() == "#version: 0.2\n"
    assert CLIPTokenizer.from_pretrained(tmp_path)("at").input_ids == [512, 64, 339, 513]


def test_common_words_are_one_token(tokenizer):
    ids = tokenizer("the photo of a beautiful landscape").input_ids
    assert len(ids) == 2 + 6


def test_bytes_have_distinct_printable_symbols():
    symbols = byte_symbols()
    assert sorted(symbols) == list(range(256))
    assert len(set(symbols.values())) == 256
    assert not any(each.isspace() for each in symbols.values())


def test_merges_join_what_exists():
    known = set(byte_symbols().values())
    known |= {f"{each}</w>" for each in known}
    for left, right in learn_merges():
        assert {left, right} <= known
        known.add(left + right)


@given(st.text(max_size=40))
def test_any_text_survives(tokenizer, text):
    """No character is unknown: what comes back is the text, normalised as CLIP does."""
    text = text.replace("<|", "")
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert not {49406, 49407} & set(ids)
    normalised = unicodedata.normalize("NFC", text).lower()
    assert _bare(tokenizer.decode(ids)) == _bare(normalised)


def _bare(text):
    return "".join(unicodedata.normalize("NFC", text).split())
