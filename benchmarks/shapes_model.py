"""A small promptable network that learns to find coloured shapes by what CLIP sees of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from benchmarks.coloured_shapes import COLOURS, SHAPES, Pair, draw_scene, pairs

from sam_plugins.model.evaluation.text_finders import PromptedFinder
from sam_plugins.model.evaluation.text_to_mask import (
    PhrasedImage,
    TextSummary,
    evaluate_text_to_mask,
    summarise_text,
)
from sam_plugins.model.inference.clip import TextImageEncoder
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    MaskDecoderConfig,
    Preprocessing,
    PyramidConfig,
    SamConfig,
)
from sam_plugins.model.training.batches import TrainingBatch
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.text_prompts import TextPromptOptions, with_text_slot
from sam_plugins.model.training.text_trainer import train_text_prompts

SIZE = 96
TEMPLATES = ("{}",)  # the tiny CLIP knows no captions
CONFIG = SamConfig(
    image_encoder=PyramidConfig(
        stage_dims=(24, 48, 64, 64),
        stage_depths=(1, 1, 2, 1),
        context_depth=1,
        skip_dims=(32, 24),
        image_size=SIZE,
        out_dim=64,
    ),
    mask_decoder=MaskDecoderConfig(
        num_heads=4, mlp_dim=128, upscale_dims=(32, 16), iou_head_hidden_dim=32, uses_skips=True
    ),
    preprocessing=Preprocessing(min_long_side=SIZE, max_long_side=SIZE, pad_to=32),
)


@dataclass(frozen=True)
class SceneBatches:
    """Scenes without the pairs that are held out; every step has its own."""

    seed: int = 0
    images: int = 8
    objects: int = 4

    def batch(self, step: int) -> TrainingBatch:
        """Return the batch of a step."""
        rng = np.random.default_rng([self.seed, step])
        among = pairs(held_out=False)
        scenes = [draw_scene(rng, among, size=SIZE) for _ in range(self.images)]
        masks, index = [], []
        for number, scene in enumerate(scenes):
            for label in rng.permutation(len(scene.phrases))[: self.objects] + 1:
                masks.append((scene.labels == label).astype(np.uint8))
                index.append(number)
        cells = SIZE // 4
        return TrainingBatch(
            images=torch.from_numpy(np.stack([scene.rgb for scene in scenes])).permute(0, 3, 1, 2),
            masks=torch.from_numpy(np.stack(masks)),
            image_index=torch.tensor(index),
            mask_known=torch.ones(self.images, SIZE, SIZE, dtype=torch.bool),
            instance_targets=torch.zeros(self.images, 4, cells, cells),
        )


def train_model(
    encoder: TextImageEncoder,
    *,
    steps: int,
    seed: int = 0,
    report: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Model:
    """Train from scratch, without a word: prompts are what CLIP sees of crops."""
    torch.manual_seed(seed)
    network = with_text_slot(build_sam(CONFIG), encoder.dim)
    config = TrainingConfig(
        steps=steps, learning_rate=1e-3, warmup_steps=50, precision="float32", seed=seed
    )
    options = TextPromptOptions(text_share=0.85, min_area=20, rounds=(1.0,))
    train_text_prompts(
        network, SceneBatches(seed), encoder, config, options, method="full", report=report
    )
    return Model(network, f"shapes-{seed:012d}")


def measure_phrases(
    model: Model, encoder: TextImageEncoder, *, held_out: bool, scenes: int, seed: int = 0
) -> tuple[TextSummary, float]:
    """Ask for pairs among two others of the same colour and two of the same shape.

    Neither the colour nor the shape alone says which object is meant.

    Returns
    -------
    TextSummary
        Of the phrases that are held out, or of the others.
    float
        IoU of an object of the scene taken at random, drawn without a fault: one in five or so.
    """
    rng = np.random.default_rng([seed, 99])
    asked = pairs(held_out=held_out)
    images, targets = [], {}
    for number in range(scenes):
        target = asked[number % len(asked)]
        scene = draw_scene(rng, _rivals(target, rng), size=SIZE)
        if " ".join(target) not in scene.phrases:
            continue
        phrases = dict(enumerate(scene.phrases, start=1))
        image = PhrasedImage.from_labels(str(number), scene.rgb, scene.labels, phrases)
        images.append(image)
        targets[image.id] = " ".join(target)
    scores = evaluate_text_to_mask(PromptedFinder(model, encoder, TEMPLATES), images)
    of_targets = [score for score in scores if score.phrase == targets[score.image_id]]
    at_random = float(np.mean([1 / len(image.masks) for image in images]))
    return summarise_text(of_targets), at_random


def _rivals(target: Pair, rng: np.random.Generator) -> list[Pair]:
    """Return a pair with two of its colour and two of its shape."""
    colour, shape = target
    colours = [other for other in COLOURS if other != colour]
    shapes = [other for other in SHAPES if other != shape]
    same_colour = [(colour, str(other)) for other in rng.choice(shapes, 2, replace=False)]
    same_shape = [(str(other), shape) for other in rng.choice(colours, 2, replace=False)]
    return [target, *same_colour, *same_shape]
