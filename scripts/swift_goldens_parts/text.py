"""Prompts as transformers' CLIP tokenizers encode them, and the files that an export writes."""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdexport.core.checkpoint import Checkpoint, ComponentSource
from kdexport.core.manifest import TextEncoding
from kdexport.export.demo import DEMO_MODELS
from kdexport.export.text import write_tokenizer_files
from kdexport.export.tokenizer_files import write_tokenizer
from tokenizers import Tokenizer
from transformers import CLIPTokenizer
from transformers.utils import logging

from .files import write_json
from .prompts import prompts

START, END = "<|startoftext|>", "<|endoftext|>"
_SIZE = 49408
# The pattern that older versions of transformers wrote.
_OLD_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""

Encode = Callable[[Sequence[str]], list[list[int]]]


def write_text(out: Path) -> int:
    """Writes `text.json` and the tokenizers; returns the number of prompts, over all tokenizers."""
    logging.set_verbosity_error()
    texts = prompts()
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for name, source in _sources(Path(folder)).items():
            encoding = _export(name, source, out / "tokenizers")
            cases.append(_case(name, source, encoding, texts))
    cases.append(_old_case(out / "tokenizers", cases[0], texts))
    write_json(out / "text.json", {"prompts": texts, "tokenizers": cases})
    return sum(len(case["ids"]) for case in cases)


def _sources(folder: Path) -> dict[str, Path]:
    """Folders as checkpoints have them: CLIP's two, made-up ones, and that of the demo model."""
    merges = clip_merges()
    for name, pad in (("clip", END), ("openclip", "!")):
        (folder / name / "tokenizer").mkdir(parents=True)
        write_tokenizer(folder / name / "tokenizer", _SIZE, pad, merges=merges)
    for name, pad in (("small", END), ("small-open", "!")):
        (folder / name / "tokenizer").mkdir(parents=True)
        write_tokenizer(folder / name / "tokenizer", 900, pad, max_length=20)
    _write_plain(folder / "plain" / "tokenizer", merges)
    names = ("clip", "openclip", "small", "small-open", "plain")
    return {**{name: folder / name for name in names}, "demo": DEMO_MODELS["demo"]}


def _write_plain(folder: Path, merges: tuple[tuple[str, str], ...]) -> None:
    """A tokenizer without settings: what transformers assumes of its special tokens counts."""
    folder.mkdir(parents=True)
    write_tokenizer(folder, _SIZE, END, merges=merges)
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        (folder / name).unlink()


def clip_merges() -> tuple[tuple[str, str], ...]:
    """The merges of CLIP's vocabulary, which open_clip carries."""
    # Found without importing: open_clip wants torchvision.
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise SystemExit("Install open_clip_torch, which carries CLIP's vocabulary.")
    source = Path(found.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(source.read_bytes()).decode("utf-8").split("\n")
    pairs = [line.split() for line in lines[1 : 1 + _SIZE - 514]]
    return tuple((first, second) for first, second in pairs)


def _export(name: str, source: Path, out: Path) -> TextEncoding:
    """Writes a tokenizer as an export does; only `tokenizer.json` is kept."""
    length = 77 if name in {"clip", "openclip", "plain"} else 20
    config = source / "text_encoder" / "config.json"
    if config.is_file():
        length = json.loads(config.read_text(encoding="utf-8"))["max_position_embeddings"]
    encoder = ComponentSource(
        *("text_encoder", "transformers", "CLIPTextModel"),
        folder=source / "text_encoder",
        config={"max_position_embeddings": length},
    )
    checkpoint = Checkpoint(
        *(name, None, source, "StableDiffusionPipeline", "sd", {}),
        components={"text_encoder": encoder},
        scheduler={},
        defaults={},
    )
    with tempfile.TemporaryDirectory() as folder:
        encoding = write_tokenizer_files(checkpoint, "text_encoder", Path(folder))
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(folder) / encoding.tokenizer, out / f"{name}.json")
    return encoding


def _case(name: str, source: Path, encoding: TextEncoding, texts: list[str]) -> dict[str, Any]:
    """What transformers makes of the prompts, from the checkpoint's own files."""
    theirs = CLIPTokenizer.from_pretrained(source / "tokenizer")
    length = encoding.max_length
    options = {"padding": "max_length", "truncation": True, "max_length": length}
    whole = [theirs(text, truncation=False).input_ids for text in texts]
    return {
        "name": name,
        "max_length": length,
        "bos": encoding.bos_token_id,
        "eos": encoding.eos_token_id,
        "pad": encoding.pad_token_id,
        "ids": [theirs(text, **options).input_ids for text in texts],
        "removed": [theirs.batch_decode([ids[length - 1 : -1]])[0] for ids in whole],
    }


def _old_case(out: Path, clip: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """The same tokenizer in the form of older files, encoded by the `tokenizers` library."""
    stored = json.loads((out / "clip.json").read_text(encoding="utf-8"))
    stored["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = _OLD_PATTERN
    stored["model"]["merges"] = [" ".join(pair) for pair in stored["model"]["merges"]]
    for part in stored["pre_tokenizer"]["pretokenizers"][1:]:
        part.pop("use_regex", None)
    write_json(out / "old.json", stored)
    library = Tokenizer.from_file(str(out / "old.json"))
    rows = [library.encode(text, add_special_tokens=False).ids for text in texts]
    room = clip["max_length"] - 2
    ids = [[clip["bos"], *row[:room], clip["eos"]] for row in rows]
    padded = [row + [clip["pad"]] * (room + 2 - len(row)) for row in ids]
    cut = [library.decode(row[room:], skip_special_tokens=False) for row in rows]
    removed = [text.replace("</w>", " ").strip() for text in cut]
    return {**clip, "name": "old", "ids": padded, "removed": removed}
