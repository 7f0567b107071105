"""CLIP token ids from `tokenizer.json`, without transformers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..core.errors import BundleError
from ..core.manifest import TextEncoding


class TruncationWarning(UserWarning):
    """A prompt was longer than the text encoder reads."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Prompts as token ids.

    Attributes:
        ids: `(n, max_length)`, int64: start marker, text, end marker, padding.
        removed: The text that did not fit, for each prompt; empty where all of it did.
    """

    ids: NDArray[np.int64]
    removed: tuple[str, ...]


class ClipTokenizer:
    """Gives the ids of transformers' `CLIPTokenizer(padding="max_length", truncation=True)`.

    Args:
        encoding: The tokenizer's file, its special tokens and its length.
        bundle: The bundle's folder.

    Raises:
        BundleError: The file cannot be read, or lacks one of the special tokens.
    """

    def __init__(self, encoding: TextEncoding, bundle: Path) -> None:
        self.encoding = encoding
        path = bundle / PurePosixPath(encoding.tokenizer)
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise BundleError(f"'{path}' is no tokenizer ({error}); export again.") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            token = getattr(encoding, name)
            if self._tokenizer.id_to_token(token) is None:
                raise BundleError(
                    f"'{path}' has no token {token}, the {name} of the manifest; export again."
                )

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Encodes texts, cut to the length that the text encoder reads."""
        encoding = self.encoding
        room = encoding.max_length - 2
        rows, removed = [], []
        for text in texts:
            tokens = self._tokenizer.encode(text, add_special_tokens=False).ids
            row = [encoding.bos_token_id, *tokens[:room], encoding.eos_token_id]
            rows.append(row + [encoding.pad_token_id] * (encoding.max_length - len(row)))
            removed.append(self._decode(tokens[room:]))
        ids = np.array(rows, dtype=np.int64).reshape(len(rows), encoding.max_length)
        return Tokens(ids, tuple(removed))

    def warn(self, tokens: Tokens) -> None:
        """Issues a `TruncationWarning` that shows what was cut off, where anything was."""
        cut = [text for text in tokens.removed if text]
        if cut:
            warnings.warn(
                f"The text encoder reads {self.encoding.max_length - 2} tokens; the following "
                f"part of the prompt was cut off: {cut}.",
                TruncationWarning,
                stacklevel=2,
            )

    def _decode(self, ids: Sequence[int]) -> str:
        # As transformers does: the end of a word is part of CLIP's tokens.
        text = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text.replace("</w>", " ").strip()
