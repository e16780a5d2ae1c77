"""CLIP behind a small interface: crops and phrases to vectors of one space.

CLIP (Radford et al. 2021) is another model with weights of its own. It is read through the library
`transformers` (the extra ``text``), from a folder or by the name of a model hub, and nothing is
downloaded unless that is asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError

from sam_plugins.errors import (
    CheckpointError,
    DownloadError,
    MissingExtraError,
    UnknownModelError,
    how_to_install,
)
from sam_plugins.model.inference.loading import checked_device
from sam_plugins.model.inference.memory import memory_limits
from sam_plugins.model.weights.paths import home_directory, is_offline

FloatArray = npt.NDArray[np.float32]

DEFAULT_CLIP = "openai/clip-vit-base-patch32"
"""The smallest of the published CLIPs: 600 MB, MIT licence."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's pictures, 0 to 1; a model's ``preprocessor_config.json`` may say otherwise."""

_FILES = "config.json, model.safetensors, tokenizer.json or vocab.json and merges.txt, "
_FILES += "preprocessor_config.json"
_CROPS_AT_ONCE = 16
_UNREADABLE = (
    AttributeError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)
"""What `transformers` raises for bad files: whatever the parsers of half a dozen formats raise."""


class TextImageEncoder(Protocol):
    """What text prompts need: crops and phrases become vectors whose dot product says how alike."""

    @property
    def encoder_id(self) -> str:
        """Name of the weights: a network trained with one encoder cannot use another."""

    @property
    def dim(self) -> int:
        """Length E of the vectors."""

    @property
    def crop_size(self) -> int:
        """Pixels of a side of the crops."""

    @property
    def fill(self) -> tuple[int, int, int]:
        """Colour that says nothing: zero once the crop is normalised."""

    @property
    def logit_scale(self) -> float:
        """Factor on dot products before a softmax over phrases."""

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return vectors (n, E) of length 1."""

    def embed_crops(self, crops: Sequence[npt.NDArray[np.uint8]]) -> FloatArray:
        """Return vectors (n, E) of length 1 of crops (S, S, 3)."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A CLIP of `transformers`; it is a :class:`TextImageEncoder`.

    Parameters
    ----------
    network : CLIPModel
        In evaluation mode.
    tokenizer : tokenizer
        That belongs to it.
    encoder_id : str
    mean, std : (float, float, float)
        Of pixels from 0 to 1.
    """

    network: Any
    tokenizer: Any
    encoder_id: str
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    @property
    def dim(self) -> int:
        """Length E of the vectors."""
        return int(self.network.config.projection_dim)

    @property
    def crop_size(self) -> int:
        """Pixels of a side of the crops."""
        return int(self.network.config.vision_config.image_size)

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour."""
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue

    @property
    def logit_scale(self) -> float:
        """What the network learned, 100 for the published ones."""
        return float(self.network.logit_scale.detach().exp())

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return vectors of phrases.

        Parameters
        ----------
        texts : sequence of str
            What is longer than the network's context, 77 tokens, is cut off.

        Returns
        -------
        ndarray of shape (n, E), float32
            Of length 1.

        Raises
        ------
        ValueError
            If there is no phrase, or one is empty.
        """
        checked_phrases(texts)
        limit = int(self.network.config.text_config.max_position_embeddings)
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt"
        )
        device = self.network.device
        found = self.network.get_text_features(
            input_ids=tokens["input_ids"].to(device),
            attention_mask=tokens["attention_mask"].to(device),
        )
        return _unit(found)

    @torch.inference_mode()
    def embed_crops(self, crops: Sequence[npt.NDArray[np.uint8]]) -> FloatArray:
        """Return vectors of crops.

        Parameters
        ----------
        crops : sequence of ndarray of shape (S, S, 3), uint8
            S is :attr:`crop_size`.

        Returns
        -------
        ndarray of shape (n, E), float32
            Of length 1.

        Raises
        ------
        ValueError
            If a crop is of another shape.
        """
        expected = (self.crop_size, self.crop_size, 3)
        for crop in crops:
            if crop.shape != expected:
                raise ValueError(f"crops must have shape {expected}, got {crop.shape}")
        device, dtype = self.network.device, self.network.dtype
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        parts: list[npt.NDArray[np.float32]] = [np.zeros((0, self.dim), np.float32)]
        with memory_limits("looking at crops with CLIP", lambda: "use a smaller CLIP"):
            for start in range(0, len(crops), _CROPS_AT_ONCE):
                stacked = np.stack(list(crops[start : start + _CROPS_AT_ONCE]))
                pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255
                pixels = ((pixels - mean) / std).to(device, dtype)
                parts.append(_unit(self.network.get_image_features(pixel_values=pixels)))
        return np.concatenate(parts)


def checked_phrases(texts: Sequence[str]) -> Sequence[str]:
    """Refuse no phrase, and phrases that say nothing.

    Raises
    ------
    ValueError
        If there is no phrase, or one is empty.
    TypeError
        If a single text was given for a sequence, or something else for a text.
    """
    if isinstance(texts, str):
        raise TypeError(f"phrases must be a sequence of texts, got one text: pass [{texts!r}]")
    if not len(texts):
        raise ValueError("there must be at least one phrase, got none")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a phrase must be a text, got {type(text).__name__}")
        if not text.strip():
            raise ValueError(f"a phrase must say what to look for, got {text!r}")
    return texts


def load_clip(
    name_or_folder: str | os.PathLike[str] = DEFAULT_CLIP,
    *,
    device: torch.device | str | None = None,
    download: bool = False,
) -> Clip:
    """Load a CLIP from a folder, or by its name on the Hugging Face hub.

    Parameters
    ----------
    name_or_folder : str or path
        A folder that holds a CLIP as `transformers` saves it; or a name such as
        ``"openai/clip-vit-base-patch32"``, which is looked for in :func:`clip_folder` and in the
        hub's own cache.
    device : device, optional
        As for :func:`~sam_plugins.load_model`.
    download : bool
        Whether a name that is not on this machine may be fetched from the hub.

    Returns
    -------
    Clip

    Raises
    ------
    MissingExtraError
        If `transformers` is not installed.
    UnknownModelError
        If there is no such CLIP on this machine; the message names the folder to fill.
    DownloadError
        If it cannot be fetched.
    CheckpointError
        If the files are no CLIP, or damaged.
    DeviceError
        If the device does not exist on this machine.
    """
    where = checked_device(device)
    _require_transformers()
    source = _source(name_or_folder, download=download)
    name = Path(name_or_folder).name if Path(name_or_folder).is_dir() else str(name_or_folder)
    from transformers import AutoTokenizer, CLIPModel

    with _readable(name, source), memory_limits(f"loading the CLIP {name}", lambda: "close others"):
        kind = _json(source / "config.json").get("model_type")
        if kind != "clip":
            raise ValueError(f"its config.json says model_type {kind!r}, and not 'clip'")
        network: Any = CLIPModel.from_pretrained(source, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        said = source / "preprocessor_config.json"
        pictures = _json(said) if said.is_file() else {}
    network = network.eval().requires_grad_(requires_grad=False).to(where)
    return Clip(
        network,
        tokenizer,
        encoder_id=name,
        mean=_three(pictures.get("image_mean"), CLIP_MEAN),
        std=_three(pictures.get("image_std"), CLIP_STD),
    )


def clip_folder(name: str) -> Path:
    """Return the folder in which a CLIP of that name is looked for first.

    Examples
    --------
    >>> clip_folder("openai/clip-vit-base-patch32").name
    'openai--clip-vit-base-patch32'
    """
    return home_directory() / "clip" / name.replace("/", "--")


def _require_transformers() -> None:
    """Refuse to go on without the library."""
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "text prompts need the library transformers, which is not installed; "
            f"{how_to_install('text')}"
        ) from error


def _source(name_or_folder: str | os.PathLike[str], *, download: bool) -> Path:
    """Return the folder of the files."""
    path, name = Path(name_or_folder), str(name_or_folder)
    own = clip_folder(name)
    for folder in (path, own):
        if (folder / "config.json").is_file():
            return folder
    if path.is_dir():
        raise UnknownModelError(
            f"the folder {path} must hold a CLIP ({_FILES}), but has no config.json"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        pass  # not in the hub's cache, or no name that a hub could have
    if not download or is_offline():
        how = (
            "take back SAM_PLUGINS_OFFLINE to download it"
            if download
            else "allow the download with download=True"
        )
        raise UnknownModelError(
            f"the CLIP {name!r} is not on this machine: put its files ({_FILES}) into {own}, "
            f"name another folder that holds a CLIP, or {how}"
        )
    patterns = ["*.json", "*.txt", "*.safetensors"]
    try:
        snapshot_download(name, local_dir=own, allow_patterns=patterns)
        if not any(own.glob("*.safetensors")):  # older ones have a pickle, read as weights only
            snapshot_download(name, local_dir=own, allow_patterns=["pytorch_model.bin"])
        return own
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise DownloadError(
            f"cannot download the CLIP {name!r}: {reason}; put its files ({_FILES}) into {own}"
        ) from error


@contextmanager
def _readable(name: str, source: Path) -> Iterator[None]:
    """Read without bars, and translate what `transformers` raises for files that it cannot use."""
    from transformers import utils

    logging: Any = utils.logging
    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise CheckpointError(
            f"cannot read the CLIP {name!r} in {source}: {reason}; get its files again ({_FILES})"
        ) from error
    finally:
        if had_bars:
            logging.enable_progress_bar()


def _json(path: Path) -> dict[str, Any]:
    """Read a file of settings."""
    values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return values


def _three(values: Any, default: tuple[float, float, float]) -> tuple[float, float, float]:  # noqa: ANN401
    """Return three numbers of a file of settings."""
    if values is None:
        return default
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _unit(found: Any) -> FloatArray:  # noqa: ANN401
    """Return vectors of length 1; transformers 5 wraps what transformers 4 returned bare."""
    vectors = getattr(found, "pooler_output", found).float()
    unit: FloatArray = (vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)).cpu().numpy()
    return unit
