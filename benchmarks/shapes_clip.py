"""A CLIP of a few hundred kilobytes that learns, in a minute, what coloured shapes are called.

It is a CLIP of `transformers` like any other, with words as tokens, trained as CLIP was: crops and
their phrases, matched within a batch (Radford et al. 2021). Pairs of colour and shape that are held
out are in none of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from benchmarks.coloured_shapes import COLOURS, SHAPES, Pair, draw_scene, pairs
from scipy import ndimage

from sam_plugins.model.inference.clip import Clip, load_clip
from sam_plugins.model.inference.mask_crops import WindowMask, crop_object

CROP = 32
FILL = (128, 128, 128)
CONTEXT = 8
PAD, UNKNOWN = "<pad>", "<unknown>"
_MEAN = 0.5


def train_clip(
    folder: Path,
    *,
    steps: int = 1500,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> Clip:
    """Train and save a CLIP on crops of shapes that are not held out.

    Parameters
    ----------
    folder : Path
        Where its files go.
    steps : int
        Of the optimiser; in each, one crop of every pair.
    seed : int
    report : callable, optional
        Called after every step with its number and the loss.
    """
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_tokenizer(), pad_token=PAD, model_max_length=CONTEXT
    )
    tokenizer.save_pretrained(folder)
    pictures = {"image_mean": [_MEAN] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    shared = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    torch.manual_seed(seed)
    network = CLIPModel(
        CLIPConfig(
            text_config={
                **shared,
                "num_hidden_layers": 1,
                "vocab_size": len(tokenizer),
                "max_position_embeddings": CONTEXT,
                "eos_token_id": tokenizer.convert_tokens_to_ids("<end>"),
                "bos_token_id": tokenizer.convert_tokens_to_ids("<start>"),
                "pad_token_id": tokenizer.convert_tokens_to_ids("<pad>"),
            },
            vision_config={
                **shared,
                "num_hidden_layers": 3,
                "image_size": CROP,
                "patch_size": 4,
            },
            projection_dim=32,
        )
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng = np.random.default_rng([seed, 1])
    among = pairs(held_out=False)
    pool = _Crops(rng, among)
    for step in range(steps):
        tokens = tokenizer(
            [f"{colour} {shape}" for colour, shape in among], return_tensors="pt", padding=True
        )
        crops = np.stack([pool.draw(pair) for pair in among])
        pixels = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255 - _MEAN) / 0.25
        loss = network(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=pixels,
            return_loss=True,
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if report is not None:
            report(step, float(loss))
    network.eval().save_pretrained(folder)
    return load_clip(folder, device="cpu")


def accuracy(clip: Clip, held_out: bool, *, seed: int = 7, count: int = 8) -> float:
    """Return how often a crop is nearest to its own phrase, of all 30; chance is 1 in 30."""
    every = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    texts = clip.embed_texts(every)
    rng = np.random.default_rng(seed)
    among = pairs(held_out=held_out)
    pool = _Crops(rng, among, scenes=20)
    right = total = 0
    for pair in among:
        seen = clip.embed_crops([pool.draw(pair) for _ in range(count)])
        right += int((np.argmax(seen @ texts.T, axis=1) == every.index(" ".join(pair))).sum())
        total += count
    return right / total


class _Crops:
    """Crops of objects, drawn once and handed out at random."""

    def __init__(self, rng: np.random.Generator, among: list[Pair], scenes: int = 100) -> None:
        self._rng = rng
        self._of: dict[str, list[tuple[npt.NDArray[np.uint8], WindowMask]]] = {}
        for _ in range(scenes):
            scene = draw_scene(rng, among, count=6)
            for label, window in enumerate(ndimage.find_objects(scene.labels), start=1):
                found = WindowMask(window, scene.labels[window] == label)
                self._of.setdefault(scene.phrases[label - 1], []).append((scene.rgb, found))

    def draw(self, pair: Pair) -> npt.NDArray[np.uint8]:
        """Return a crop of a pair, larger or smaller, with or without its surroundings."""
        kind = self._of[" ".join(pair)]
        rgb, found = kind[int(self._rng.integers(len(kind)))]
        return crop_object(
            rgb,
            found,
            CROP,
            scale=float(self._rng.uniform(1, 2)),
            is_masked=bool(self._rng.random() < 0.5),
            fill=FILL,
        )


def _word_tokenizer() -> object:
    """Return a tokenizer whose tokens are words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = [PAD, UNKNOWN, "<start>", "<end>", "a", "photo", "of", ".", *COLOURS, *SHAPES]
    numbers = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[(word, numbers[word]) for word in ("<start>", "<end>")],
    )
    return tokenizer


if __name__ == "__main__":
    import sys

    start = time.perf_counter()
    trained = train_clip(Path(sys.argv[1]))
    print(f"{time.perf_counter() - start:.0f} s")
    print("seen", accuracy(trained, held_out=False), "held out", accuracy(trained, held_out=True))
