"""The tokenizer and the text encoder, in CLIP's format and shape."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from kdexport.export.tokenizer_files import END, RESERVED, learn_merges, write_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .data import training_scenes

MAX_LENGTH = 32  # tokens; the longest caption of the world has 25
WIDTH = 96
_SCENES = 3_000  # captions that the merges are learnt from


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """Learns a byte pair vocabulary from training captions; each of their words is one token."""
    captions = [scene.caption for scene in training_scenes(_SCENES)]
    counts = Counter(word for caption in captions for word in caption.split())
    merges = learn_merges(tuple(sorted(counts, key=lambda word: (-counts[word], word))))
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, RESERVED + len(merges), END, merges=merges, max_length=MAX_LENGTH)
    return CLIPTokenizer.from_pretrained(folder)


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP's text model, narrow, with random weights."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            hidden_act="quick_gelu",
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
