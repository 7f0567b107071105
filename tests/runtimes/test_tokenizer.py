"""Our CLIP ids against transformers' CLIPTokenizer, with CLIP's real vocabulary."""

from __future__ import annotations

import gzip
import importlib.util
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kdexport.core.errors import BundleError
from kdexport.core.manifest import TextEncoding
from kdexport.export.tokenizer_files import byte_symbols
from kdexport.runtimes.tokenizer import ClipTokenizer, TruncationWarning
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
AWKWARD = [
    "",
    " ",
    "\n\t \r",
    "a photo of a cat",
    "A PHOTO   of\ta\n\nCAT",
    "it's they're I've I'm we'll he'd don't",
    "4k 8K 1024x1024 3.14 v1.5 ½ ² ٣",
    "café CAFÉ cafe\u0301 ﬁne Straße İstanbul",
    "日本語 の 猫 고양이 кошка 🐈‍⬛ 👩🏽‍🚀 🇫🇷",
    "zero\u200bwidth\u200djoin\ufeff\u00a0nbsp\u2028line",
    "null \x00 and \x07 bell \x7f",
    "<|endoftext|> inside <|startoftext|>",
    "<|endoftext|><|endoftext|>!",
    "</w> a</w> <w/> &amp; <b>bold</b>",
    "(masterpiece:1.2), [[low]], {x|y}, a_b-c--d...!!!???",
    "ＦＵＬＬ ｗｉｄｔｈ ａｎｄ ｈａｌｆ ｶﾀｶﾅ",
    "עברית العربية हिन्दी ไทย",
    "𝕬𝖓𝖈𝖎𝖊𝖓𝖙 𝓽𝓮𝔁𝓽",
    "\U0010ffff \ue000 \ufffd",
    "word " * 75,
    "word " * 76,
    "supercalifragilisticexpialidocious " * 40,
    "🐈" * 100,
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> Path:
    """A folder with CLIP's vocab.json and merges.txt, made as OpenAI's SimpleTokenizer does."""
    # Found without importing: open_clip wants torchvision.
    found = importlib.util.find_spec("open_clip")
    source = Path(found.origin).with_name("bpe_simple_vocab_16e6.txt.gz") if found else None
    if source is None or not source.is_file():
        pytest.skip("open_clip, which carries CLIP's vocabulary, is not installed")
    lines = gzip.decompress(source.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    letters = list(byte_symbols().values())
    tokens = [*letters, *(f"{each}</w>" for each in letters)]
    tokens += [*("".join(merge.split()) for merge in merges), START, END]
    folder = tmp_path_factory.mktemp("clip")
    vocab = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8"
    )
    assert len(vocab) == 49408
    return folder


@pytest.fixture(scope="module", params=[END, "!"], ids=["clip-l", "open-clip"])
def pair(request, vocabulary, tmp_path_factory):
    """transformers' tokenizer and ours, with each of the two pad tokens in use."""
    theirs = CLIPTokenizer.from_pretrained(vocabulary, pad_token=request.param, model_max_length=77)
    folder = tmp_path_factory.mktemp("saved")
    theirs.save_pretrained(folder)
    pad = {END: 49407, "!": 0}[request.param]
    encoding = TextEncoding("text_encoder", "tokenizer.json", 77, 49406, 49407, pad, "x")
    return theirs, ClipTokenizer(encoding, folder)


def assert_same(pair, texts):
    theirs, ours = pair
    expected = theirs(texts, padding="max_length", truncation=True, max_length=77).input_ids
    tokens = ours(texts)
    assert tokens.ids.dtype == np.int64
    np.testing.assert_array_equal(tokens.ids, expected)


def test_awkward_strings(pair):
    assert_same(pair, AWKWARD)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=120), min_size=1, max_size=3))
def test_any_text(pair, texts):
    assert_same(pair, texts)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab </w>|!'<>startofendx0é\u0301", max_size=200))
def test_any_text_near_the_special_tokens(pair, text):
    assert_same(pair, [text])


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        # OpenAI's tokenize("hello world!") without the mark: where "!" pads, it is a special
        # token in the text as well, and gives 0 instead of 256.
        ("hello world", [3306, 1002]),
        ("", []),
    ],
)
def test_known_ids(pair, text, ids):
    _, ours = pair
    row = ours([text]).ids[0].tolist()
    pad = ours.encoding.pad_token_id
    assert row == [49406, *ids, 49407] + [pad] * (75 - len(ids))


def test_an_exclamation_mark_is_a_token_of_its_own_where_it_pads(pair):
    _, ours = pair
    mark = 256 if ours.encoding.pad_token_id else 0
    assert ours(["hello world!"]).ids[0, :5].tolist() == [49406, 3306, 1002, mark, 49407]
    assert_same(pair, ["hello world!", "wow!!! a!b"])


def test_removed_text_is_what_diffusers_shows(pair):
    theirs, ours = pair
    texts = [f"{'word ' * 74}a Golden vase, Ünïcode 🐈!", "short", "word " * 76]
    tokens = ours(texts)
    for text, removed in zip(texts, tokens.removed, strict=True):
        whole = theirs(text, truncation=False).input_ids
        assert removed == theirs.batch_decode([whole[76:-1]])[0]
    assert tokens.removed[0].startswith("golden vase")
    assert tokens.removed[1:] == ("", "word")


def test_warns_only_where_text_was_cut(pair):
    _, ours = pair
    with pytest.warns(TruncationWarning, match=r"reads 75 tokens.*golden vase"):
        ours.warn(ours([f"{'word ' * 75} golden vase"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.warn(ours(["word " * 75]))


def test_stored_padding_and_truncation_do_not_matter(pair, tmp_path):
    theirs, ours = pair
    # `tokenizer.json` keeps whatever was set last.
    theirs(["x"], padding="max_length", truncation=True, max_length=5)
    theirs.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert stored["truncation"] is not None
    again = ClipTokenizer(ours.encoding, tmp_path)
    np.testing.assert_array_equal(again(AWKWARD).ids, ours(AWKWARD).ids)


def test_a_broken_file_is_refused(sd, tmp_path):
    encoding = sd.manifest.text[0]
    with pytest.raises(BundleError, match=r"is no tokenizer .*export again"):
        ClipTokenizer(encoding, tmp_path)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / encoding.tokenizer).write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match="is no tokenizer"):
        ClipTokenizer(encoding, tmp_path)


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "pad_token_id"])
def test_a_special_token_that_is_not_there_is_refused(sd, name):
    encoding = replace(sd.manifest.text[0], **{name: 5000})
    with pytest.raises(BundleError, match=f"no token 5000, the {name}"):
        ClipTokenizer(encoding, sd.folder)
