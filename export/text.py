"""What a runtime must know to turn a prompt into embeddings, and the tokenizer files it needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import transformers

from ..core.checkpoint import Checkpoint, ComponentSource
from ..core.errors import CheckpointError
from ..core.manifest import TextEncoding
from .clip_skip import hidden_outputs

TOKENIZER_FILE = "tokenizer.json"
_COPIED = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def write_tokenizer_files(checkpoint: Checkpoint, encoder: str, bundle: Path) -> TextEncoding:
    """Writes the tokenizer of a text encoder and describes how the encoder is used.

    Old and new versions of transformers, Apple's Swift package and the `tokenizers` library read
    different files, so all of them are written: `vocab.json` and `merges.txt`, the configs, and
    `tokenizer.json`.

    Args:
        checkpoint: The pipeline.
        encoder: `text_encoder` or `text_encoder_2`.
        bundle: The folder to write to.

    Raises:
        CheckpointError: The pipeline has no readable tokenizer for this encoder.
    """
    name = encoder.replace("text_encoder", "tokenizer")
    source, target = checkpoint.folder / name, bundle / name
    tokenizer = _load_tokenizer(source)
    target.mkdir(parents=True)
    for file in _COPIED:
        if (source / file).is_file():
            shutil.copyfile(source / file, target / file)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # Padding and truncation are the runtime's business; a saved setting would act twice.
    backend["padding"] = backend["truncation"] = None
    _write_json(target / TOKENIZER_FILE, backend)
    _write_json(target / "vocab.json", tokenizer.get_vocab())
    merges = [
        pair if isinstance(pair, str) else " ".join(pair) for pair in backend["model"]["merges"]
    ]
    lines = "\n".join(["#version: 0.2", *merges]) + "\n"
    (target / "merges.txt").write_text(lines, encoding="utf-8", newline="\n")
    _write_config(target / "tokenizer_config.json", checkpoint.components[encoder])
    return _encoding(checkpoint, encoder, tokenizer)


def describe_tokenizer(checkpoint: Checkpoint, encoder: str) -> TextEncoding:
    """What `write_tokenizer_files` returns, without writing anything; raises what it does."""
    folder = checkpoint.folder / encoder.replace("text_encoder", "tokenizer")
    return _encoding(checkpoint, encoder, _load_tokenizer(folder))


def require_tokenizers(checkpoint: Checkpoint) -> None:
    """Raises `CheckpointError` naming the first tokenizer that the pipeline lacks."""
    for encoder in checkpoint.text_encoders:
        folder = checkpoint.folder / encoder.replace("text_encoder", "tokenizer")
        if not folder.is_dir():
            raise CheckpointError(f"The pipeline lacks the folder '{folder}'; complete it.")


def _load_tokenizer(folder: Path) -> Any:
    try:
        return transformers.CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
    # The tokenizers library raises nothing more special than Exception.
    except Exception as error:
        raise CheckpointError(
            f"'{folder}' holds no CLIP tokenizer that transformers can read ({error}); download "
            "it again."
        ) from error


def _write_config(path: Path, encoder: ComponentSource) -> None:
    """Adds what newer versions of transformers no longer guess."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config.setdefault("tokenizer_class", "CLIPTokenizer")
    # Without it diffusers overflows under transformers 5.
    config["model_max_length"] = _tokens(encoder)
    _write_json(path, config)


def _encoding(checkpoint: Checkpoint, encoder: str, tokenizer: Any) -> TextEncoding:
    folder = encoder.replace("text_encoder", "tokenizer")
    hidden, negative = hidden_outputs(checkpoint, encoder)
    return TextEncoding(
        role=encoder,
        tokenizer=f"{folder}/{TOKENIZER_FILE}",
        max_length=_tokens(checkpoint.components[encoder]),
        bos_token_id=int(tokenizer.bos_token_id),
        eos_token_id=int(tokenizer.eos_token_id),
        pad_token_id=int(tokenizer.pad_token_id),
        hidden_output=hidden,
        pooled_output="text_embeds" if encoder == "text_encoder_2" else None,
        negative_output=None if negative == hidden else negative,
    )


def _tokens(encoder: ComponentSource) -> int:
    return int(encoder.config.get("max_position_embeddings", 77))


def _write_json(path: Path, data: Any) -> None:
    text = json.dumps(data, ensure_ascii=False, indent=None if len(data) > 64 else 2)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
