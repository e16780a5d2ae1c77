"""A network in training, and what it learns from, by the options of a fine-tuning."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.cached_batches import CachedBatches
from sam_plugins.model.engine.tuning_options import FineTuningOptions, Method
from sam_plugins.model.engine.tuning_progress import Run, TrainingProgress
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model, network_of
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.networks.config import PyramidConfig, SamConfig
from sam_plugins.model.networks.efficientnet_lite import EfficientNetLiteFeatures
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import Batches, BatchMaker, BatchOptions
from sam_plugins.model.training.choices import CropSize
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.lora import add_lora, has_lora, merged_state, save_adapter
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.pictures import TrainingPicture, picture_of
from sam_plugins.model.training.precision import resolve_precision
from sam_plugins.model.training.presets import paper_recipe, resolve_recipe
from sam_plugins.model.training.processes import Processes
from sam_plugins.model.training.prompt_simulation import PromptOptions
from sam_plugins.model.training.recipe import TrainingRecipe
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import LoadedCheckpoint
from sam_plugins.model.weights.passport import Passport

SESSIONS = (0.3, 0.2, 0.15, 0.15, 0.1, 0.1)
"""Probabilities of one, two, three, ... answers for an object: who labels little clicks a lot, and
what is not trained with long sessions forgets how to be corrected."""

SPARSE_RIM_CELLS = 1
"""On incompletely labelled pictures, who drew an outline has looked at both of its sides: so much
is trusted to be background, and no more, for an unlabelled object may touch."""


@dataclass(frozen=True)
class Learner:
    """A network in training, and what it learns from."""

    state: TrainingState[Sam]
    batches: Batches
    config: TrainingConfig
    objects: int
    parent: LoadedCheckpoint

    @classmethod
    def of(
        cls,
        checkpoint: LoadedCheckpoint,
        files: Sequence[LabelledFile],
        options: FineTuningOptions,
        device: torch.device | str,
        cache: EmbeddingCache | None,
        batch_options: BatchOptions,
        tell: Callable[[TrainingProgress], None] = lambda _: None,
    ) -> Learner:
        """Read the pictures and prepare a copy of the parent."""
        pictures = [
            _without_ignored(picture_of(file.read(), checkpoint.config.preprocessing))
            for file in files
        ]
        objects = sum(len(picture.boxes_xyxy) for picture in pictures)
        if not objects:
            raise DatasetError("no training picture has a labelled object: label some first")
        config = _training_config(options, checkpoint.config, device)
        network = network_of(checkpoint).to(device)
        choose_what_learns(network, options.method)
        if options.method == "lora":
            add_lora(network, rank=options.lora_rank, seed=options.seed)
            network.to(device)
        if options.crop_sizes is not None:
            batch_options = replace(batch_options, crop_sizes=options.crop_sizes)
        batch_options = replace(batch_options, rim_cells=SPARSE_RIM_CELLS)
        batches: Batches
        if options.method == "decoder" and options.views:
            batches = CachedBatches(
                pictures,
                Model(network_of(checkpoint).to(device), checkpoint.model_id),
                batch_options,
                options.seed,
                views=options.views,
                cache=cache,
                on_picture=lambda done, total: tell(
                    TrainingProgress(0, options.steps, preparing=(done, total))
                ),
            )
        else:
            batches = BatchMaker(pictures, batch_options, options.seed)
        return cls(TrainingState.fresh(network, config), batches, config, objects, checkpoint)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.state.step

    def load(self, path: Path) -> None:
        """Go on from a saved state."""
        model = self.state.model
        self.state.load(path, TrainingRecipe.of(model.config, self.config, self.batches))

    def save(self, path: Path, passport: Passport, *, share: float = 1.0) -> None:
        """Write the average of the weights, with adapters merged into it, or a part of the way.

        Parameters
        ----------
        path : Path
        passport : Passport
        share : float
            How far to go from the parent's weights (0) to the average (1).
        """
        average = self._plain_average()
        if share != 1:
            average = weights_between(self._parent_state(), average, share)
        save_model_file(path, average, passport)

    def _parent_state(self) -> Mapping[str, Tensor]:
        """Return the parent's weights under the names of a network."""
        return network_of(self.parent).state_dict()

    def save_adapter(self, folder: Path, parent_id: str) -> None:
        """Write the adapters alone, where there are any."""
        if has_lora(self.state.model):
            save_adapter(folder, self.state.model, self.state.average, parent_id)

    def _plain_average(self) -> Mapping[str, Tensor]:
        """Return the average under the names of a network without adapters."""
        if not has_lora(self.state.model):
            return self.state.average
        return merged_state(self.state.model, self.state.average)

    def train_until(
        self,
        stop_at: int,
        options: FineTuningOptions,
        tell: Callable[[TrainingProgress], None],
        run: Run | None,
        processes: Processes,
    ) -> None:
        """Train some steps more."""
        first, started = self.step, time.monotonic()
        last = started

        def report(step: int, values: Mapping[str, float]) -> None:
            nonlocal last
            now = time.monotonic()
            if run is not None:
                run.append_log(step, values, now - last)
            last = now
            left = (now - started) / (step - first) * (self.config.steps - step)
            tell(TrainingProgress(step, self.config.steps, values["loss"], seconds_left=left))

        train(
            self.state,
            self.batches,
            self.config,
            stop_at=stop_at,
            state_path=None if run is None else run.state_path,
            save_every_seconds=options.save_every_seconds,
            workers=0,
            report=report,
            processes=processes,
        )


def weights_between(
    parent: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return weights on the line from a parent's to those that were learned from it.

    Parameters
    ----------
    parent, tuned : mapping of str to Tensor
        Under the same names. What is no floating-point number is the learned one's.
    share : float
        0 is the parent, 1 what was learned.
    """
    return {
        name: torch.lerp(parent[name].to(value), value, share)
        if value.is_floating_point()
        else value
        for name, value in tuned.items()
    }


def _training_config(
    options: FineTuningOptions, network: SamConfig, device: torch.device | str
) -> TrainingConfig:
    """Return the numbers of a fine-tuning by one of the recipes."""
    config = TrainingConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        dense_steps=0,
        warmup_steps=min(20, options.steps // 10),
        losses=LossWeights(background_areas=1.5),
        prompts=PromptOptions(rounds=SESSIONS),
        precision=resolve_precision(options.precision, device),
        seed=options.seed,
    )
    if resolve_recipe(options.recipe, network) == "paper":
        return paper_recipe(config, network)
    return config


def _without_ignored(picture: TrainingPicture) -> TrainingPicture:
    """Return a picture whose labels end where the truth does: nobody asks for the rest."""
    if picture.ignore is None:
        return picture
    labels = np.where(picture.ignore, 0, picture.labels).astype(picture.labels.dtype)
    return replace(picture, labels=labels)


def choose_what_learns(network: Sam, method: Method) -> None:
    """Let all learn but what never does, and the image encoder where only decoders shall."""
    network.requires_grad_(requires_grad=True)
    frozen: list[nn.Module] = [
        part for part in network.modules() if isinstance(part, EfficientNetLiteFeatures)
    ]
    if method != "full":
        frozen.append(network.image_encoder)
    for part in frozen:
        part.requires_grad_(requires_grad=False)


def usual_batches(config: SamConfig) -> BatchOptions:
    """Return crops of sizes that the image encoder takes; one set, no synthetic pictures."""
    sizes: tuple[CropSize, ...]
    if isinstance(config.image_encoder, PyramidConfig):
        # Inference sees 768 to 1024 pixels, and a network tuned on small crops alone falters there:
        # docs/how-to/train.md says what the larger ones brought.
        sizes = (
            CropSize(256, 4, 5, 0.35),
            CropSize(384, 2, 6, 0.25),
            CropSize(512, 1, 8, 0.25),
            CropSize(768, 1, 8, 0.15),
        )
    else:
        sizes = (CropSize(config.image_encoder.image_size, 1, 8, 1.0),)
    return BatchOptions(crop_sizes=sizes, synthetic_share=0.0, set_shares={}, power=1.0)
