"""A CLIP with random weights and a tokenizer of letters, as files that `transformers` reads."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch

START, END = "<|startoftext|>", "<|endoftext|>"
DIM = 16
CROP = 32


def write_tiny_clip(folder: Path, *, seed: int = 0, dim: int = DIM) -> Path:
    """Write a CLIP that has learned nothing; return its folder."""
    from transformers import CLIPConfig, CLIPModel

    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    described = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 40, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    pictures = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    layers = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    layers |= {"num_attention_heads": 2}
    config = CLIPConfig(
        text_config={
            **layers,
            "vocab_size": len(tokens),
            "max_position_embeddings": 40,
            "bos_token_id": vocabulary[START],
            "eos_token_id": vocabulary[END],
            "pad_token_id": vocabulary[END],
        },
        vision_config={**layers, "image_size": CROP, "patch_size": 8},
        projection_dim=dim,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        CLIPModel(config).save_pretrained(folder)
    return folder
