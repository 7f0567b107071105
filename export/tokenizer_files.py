"""A tokenizer in CLIP's format, for checkpoints with made-up weights.

CLIP's vocabulary is not part of this package. What is written here has the same form: byte-level
byte pair encoding, the 256 bytes and the 256 bytes at a word's end in CLIP's order (so `!` has id
0), merges in the order they were learnt, and the start and end tokens last. Only the merges are
others and fewer: they are learnt from a list of common words. A full vocabulary keeps CLIP's size,
and so the true ids 49406 and 49407, and leaves the ids in between unused.

The files are those of the Stable Diffusion repositories, which have no `tokenizer.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

MAX_LENGTH = 77  # tokens of a prompt, start and end included
START, END = "<|startoftext|>", "<|endoftext|>"
RESERVED = 2 * 256 + 2  # ids of the bytes, of the bytes at a word's end, of start and end
_MERGES = 1024 - RESERVED

# Words of captions and prompts, the most frequent first.
_WORDS = """
the and with of in on at to by for from photo a an painting portrait image picture drawing art
beautiful highly detailed digital style light lighting color colorful background landscape city
street house woman man girl boy child people person cat dog horse bird animal flower flowers tree
forest mountain ocean river lake beach sky cloud sunset sunrise night morning winter summer spring
autumn snow rain fire water stone wood glass metal gold golden silver blue green yellow orange
purple white black brown gray pink small large big little young old ancient modern future fantasy
realistic cinematic dramatic soft warm cold dark bright sharp focus portrait close view wide angle
camera film vintage oil canvas watercolor sketch pencil illustration concept design render
different standing sitting walking running holding wearing looking playing riding flying eating
table chair window door room kitchen garden bridge road train car boat plane robot castle temple
tower king queen knight dragon wizard space planet moon star stars earth world face eyes hair hand
dress hat shirt shoes food cake bread fruit apple coffee vase basket bottle cup bowl book letter
sign clock computer phone music guitar piano elephant lion tiger bear wolf rabbit butterfly fish
masterpiece quality resolution photograph photography professional trending texture pattern shadow
reflection smooth intricate elegant ornate blurry ugly deformed low worst bad anatomy
"""


def write_tokenizer(
    folder: Path,
    vocab_size: int,
    pad_token: str,
    *,
    merges: tuple[tuple[str, str], ...] | None = None,
    max_length: int = MAX_LENGTH,
) -> None:
    """Writes `vocab.json`, `merges.txt` and the two config files of a `CLIPTokenizer`.

    Args:
        folder: The tokenizer's folder, which must exist.
        vocab_size: Number of token ids that the text encoder has; at least 514.
        pad_token: `<|endoftext|>` for CLIP-L, `!` for the OpenCLIP encoders.
        merges: The merges to use as far as `vocab_size` has room; else those of common words.
        max_length: Tokens of a prompt, start and end included.
    """
    merges = (learn_merges() if merges is None else merges)[: vocab_size - RESERVED]
    letters = [*byte_symbols().values()]
    symbols = [*letters, *(f"{each}</w>" for each in letters), *("".join(pair) for pair in merges)]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    vocabulary |= {START: vocab_size - 2, END: vocab_size - 1}
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    _write(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    _write(folder / "merges.txt", "\n".join(lines) + "\n")
    _write(folder / "special_tokens_map.json", _json(_special_tokens(pad_token)))
    settings = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": max_length,
        "tokenizer_class": "CLIPTokenizer",
    }
    _write(folder / "tokenizer_config.json", _json({**settings, **_special_tokens(pad_token)}))


def byte_symbols() -> dict[int, str]:
    """The printable character that stands for each byte, in the order of CLIP's vocabulary.

    The order is GPT-2's: the bytes that are printable in Latin-1 first, as themselves, then the
    others, as the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    symbols = {byte: chr(byte) for byte in printable}
    return symbols | {byte: chr(256 + index) for index, byte in enumerate(others)}


@cache
def learn_merges(words: tuple[str, ...] = tuple(_WORDS.split())) -> tuple[tuple[str, str], ...]:
    """Learns byte pair merges from words, the most frequent first, until each is one token.

    Ties go to the pair that sorts first. No more merges are learnt than a small vocabulary holds.
    """
    spelled = {word: [*word[:-1], f"{word[-1]}</w>"] for word in words}
    weight = {word: len(words) - index for index, word in enumerate(words)}
    merges: list[tuple[str, str]] = []
    while len(merges) < _MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelled.items():
            for pair in pairwise(parts):
                pairs[pair] += weight[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = {word: _merged(parts, best) for word, parts in spelled.items()}
    return tuple(merges)


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def _special_tokens(pad_token: str) -> dict[str, object]:
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    tokens: dict[str, object] = {"pad_token": pad_token}
    for role, content in (("bos_token", START), ("eos_token", END), ("unk_token", END)):
        tokens[role] = {"content": content, **flags}
    return tokens


def _json(data: object) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
