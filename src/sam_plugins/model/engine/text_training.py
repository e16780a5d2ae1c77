"""A model that takes phrases: a parent, a text slot, labelled pictures and a frozen CLIP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from sam_plugins.errors import DatasetError
from sam_plugins.model.inference.clip import TextImageEncoder
from sam_plugins.model.inference.loading import network_of
from sam_plugins.model.inference.text import PASSPORT_KEY
from sam_plugins.model.io.atomic import require_writable
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.networks.config import PyramidConfig, SamConfig
from sam_plugins.model.training.batches import BatchMaker, BatchOptions
from sam_plugins.model.training.choices import CropSize
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.pictures import picture_of
from sam_plugins.model.training.precision import resolve_precision
from sam_plugins.model.training.text_prompts import TextPromptOptions, with_text_slot
from sam_plugins.model.training.text_trainer import train_text_prompts
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.passport import DataSource, Passport


@dataclass(frozen=True)
class TextTrainingOptions:
    """How a model learns to take phrases.

    Parameters
    ----------
    steps : int
        Of the optimiser.
    learning_rate : float
        Of AdamW at its height.
    method : {"decoder", "full"}
        Whether the image encoder stays as it is.
    seed : int
        Of crops and prompts.
    """

    steps: int = 2000
    learning_rate: float = 2e-4
    method: Literal["decoder", "full"] = "decoder"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.method not in {"decoder", "full"}:
            raise ValueError(f"method must be 'decoder' or 'full', got {self.method!r}")
        if self.steps < 1 or not self.learning_rate > 0:
            raise ValueError(
                "steps must be 1 or more and learning_rate positive, "
                f"got {self.steps} and {self.learning_rate}"
            )


def train_with_texts(
    parent: str | Path,
    files: Sequence[LabelledFile],
    encoder: TextImageEncoder,
    path: Path,
    options: TextTrainingOptions | None = None,
    *,
    prompts: TextPromptOptions | None = None,
    name: str = "with-text",
    device: torch.device | str = "cpu",
    report: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Path:
    """Teach a model to take phrases, and write it to a file.

    No picture needs a caption: objects are asked for with what CLIP sees of them. The more kinds of
    things the pictures hold, the more words the model will understand.

    Parameters
    ----------
    parent : str or Path
        Model to start from, by name or file.
    files : sequence of LabelledFile
        Pictures with labelled objects.
    encoder : TextImageEncoder
        From :func:`~sam_plugins.load_clip`; it does not learn, and the model can only be asked with
        its phrases.
    path : Path
        File to write, ``.safetensors``; its passport names the encoder.
    options : TextTrainingOptions, optional
    prompts : TextPromptOptions, optional
    name : str
        Of the new model.
    device : device
    report : callable, optional
        Called after every step with its number and what was measured; may raise to stop.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    DatasetError
        If no picture has a labelled object.
    TrainingError
        If the loss is no longer a number.
    UnreadableImageError
        If a picture cannot be read.
    ValueError
        If ``path`` does not end in ``.safetensors``.
    """
    options = options or TextTrainingOptions()
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path.name!r}")
    require_writable(path)
    checkpoint = load_checkpoint(parent)
    pictures = [picture_of(file.read(), checkpoint.config.preprocessing) for file in files]
    objects = sum(len(picture.boxes_xyxy) for picture in pictures)
    if not objects:
        raise DatasetError("no training picture has a labelled object: label some first")
    network = with_text_slot(network_of(checkpoint), encoder.dim).to(device)
    config = TrainingConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        warmup_steps=min(100, options.steps // 10),
        losses=LossWeights(background_areas=1.5),
        precision=resolve_precision("auto", device),
        seed=options.seed,
    )
    train_text_prompts(
        network,
        BatchMaker(pictures, _batch_options(checkpoint.config), options.seed),
        encoder,
        config,
        prompts,
        method=options.method,
        report=report,
    )
    names = ", ".join(sorted({file.set_name for file in files}))
    passport = Passport(
        name=name,
        config=network.config,
        licence=checkpoint.passport.licence if checkpoint.passport else "",
        description=f"{checkpoint.name}, trained to take phrases with {encoder.encoder_id}.",
        training_data=(DataSource(names, pictures=len(files), objects=objects),),
        parent=checkpoint.model_id,
        extra={PASSPORT_KEY: encoder.encoder_id, "text_training": asdict(options)},
    )
    save_model_file(path, network.state_dict(), passport)
    return path


def _batch_options(config: SamConfig) -> BatchOptions:
    """Return crops of a size that the image encoder takes, of all sets alike."""
    if isinstance(config.image_encoder, PyramidConfig):
        largest = min(384, config.image_encoder.image_size)
        size = CropSize(largest, 4, 4, 1.0)
    else:
        size = CropSize(config.image_encoder.image_size, 1, 8, 1.0)
    return BatchOptions(crop_sizes=(size,), synthetic_share=0.0, set_shares={})
