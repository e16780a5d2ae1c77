"""From a name or a file to a model that is ready to be asked."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sam_plugins.errors import DeviceError, MissingExtraError, how_to_install
from sam_plugins.model.inference.backends.compiled import COMPILE
from sam_plugins.model.inference.backends.onnx import ONNX
from sam_plugins.model.inference.backends.openvino import OPENVINO
from sam_plugins.model.inference.backends.precision import suggested_dtype
from sam_plugins.model.inference.backends.trial import choose
from sam_plugins.model.inference.backends.ways import Encoder, Way
from sam_plugins.model.inference.memory import in_units, memory_limits
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import Preprocessing, SamConfig
from sam_plugins.model.networks.features import ImageFeatures, PreparedImage
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.weights.bare_network import NoInitialisation
from sam_plugins.model.weights.loading import LoadedCheckpoint, load_checkpoint
from sam_plugins.model.weights.passport import Passport
from sam_plugins.model.weights.paths import home_directory
from sam_plugins.model.weights.registry import DEFAULT_MODEL

Backend = Literal["torch", "auto", "openvino", "onnxruntime", "compile"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

_WAYS = (OPENVINO, ONNX, COMPILE)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_MAX_PREPARED = 8
"""Pictures of which this is kept: 18 MB each with SAM's decoder, four times the embedding."""


class _PreparedImages:
    """What the mask decoder computed of embeddings that are still in use; safe with threads."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[ImageEmbedding, PreparedImage] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[_PreparedImages], tuple[()]]:
        """Stay behind when a model goes to another process."""
        return _PreparedImages, ()

    def get(self, embedding: ImageEmbedding) -> PreparedImage | None:
        """Return what is known of an embedding."""
        with self._lock:
            return self._of.get(embedding)

    def keep(self, embedding: ImageEmbedding, image: PreparedImage) -> None:
        """Remember it for as long as the embedding lives, and is one of the last few."""
        with self._lock:
            self._of[embedding] = image
            for oldest in list(self._of)[:-_MAX_PREPARED]:
                del self._of[oldest]


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, on a device.

    Parameters
    ----------
    network : Sam
        In evaluation mode.
    model_id : str
        Name and digest of the weights; embeddings remember it.
    path : Path, optional
        The file of the weights.
    passport : Passport, optional
        What our own files say about themselves.
    encoder : callable, optional
        What runs the image encoder in place of PyTorch, for one picture at a time; see
        :func:`~sam_plugins.model.inference.loading.load_model`'s ``backend``.
    sees : Preprocessing, optional
        How a picture becomes the network's input, where that is not the network's usual way.
    """

    network: Sam
    model_id: str
    path: Path | None = None
    passport: Passport | None = None
    encoder: Encoder | None = None
    sees: Preprocessing | None = None
    _prepared: _PreparedImages = field(default_factory=_PreparedImages, init=False, repr=False)

    @property
    def config(self) -> SamConfig:
        """The architecture."""
        return self.network.config

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the network's input."""
        return self.sees or self.network.config.preprocessing

    def seeing(self, long_side: int) -> Model:
        """Return the same model, which sees every picture at one size.

        Parameters
        ----------
        long_side : int
            Of the input, in pixels; very small pictures are not enlarged as far.
        """
        usual = self.network.config.preprocessing
        return replace(self, sees=replace(usual, min_long_side=long_side, max_long_side=long_side))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the weights."""
        return next(self.network.parameters()).dtype

    @property
    def has_instance_decoder(self) -> bool:
        """Whether the model can say by itself where objects are."""
        return self.network.instance_decoder is not None

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> ImageFeatures:
        """Encode normalised pictures (B, 3, H, W)."""
        images = pixels.to(self.device, self.dtype)
        if self.encoder is not None and len(images) == 1:
            return self.encoder(images)
        return self.network.encode(images)

    @torch.inference_mode()
    def prepare(self, embedding: ImageEmbedding) -> PreparedImage:
        """Return what the decoder reads of an embedding, kept from one prompt to the next."""
        image = self._prepared.get(embedding)
        if image is not None:
            known = image.features.embedding
            if known.device == self.device and known.dtype == self.dtype:
                return image
        image = self.network.prepare(embedding.to(self.device, self.dtype).image_features)
        self._prepared.keep(embedding, image)
        return image


def load_model(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    backend: Backend = "torch",
    show_progress: bool | None = None,
) -> Model:
    """Load a model by name or from a file; the architecture is recognised.

    Parameters
    ----------
    name_or_path : str or path
        A name that ``sam-plugins models list`` knows (downloaded when it is not there yet), or a
        file of weights.
    device : device, optional
        Such as ``"cpu"``, ``"cuda:1"``, ``"mps"``. By default the first CUDA GPU, or the CPU where
        there is none.
    dtype : torch.dtype or "auto"
        Float32 by default, with the exact answers of the official code. ``torch.bfloat16`` encodes
        two to four times as fast on processors that compute in it (AMX or AVX-512 BF16); of 10,000
        pixels of a picture, about 3 change from object to background or back. ``"auto"`` takes it
        where a short measurement says that it is faster here. ``torch.float16`` is for GPUs.
    backend : {"torch", "auto", "openvino", "onnxruntime", "compile"}
        What runs the image encoder. ``"auto"`` tries what is installed (the extra ``fast``) once,
        keeps what is fastest of those that agree with PyTorch, and remembers it for this machine,
        model, number of threads and these versions. A back end that fails or disagrees is not
        used, and the log says why and what ``"auto"`` did not find.
    show_progress : bool, optional
        Draw a bar while downloading; by default only on a terminal.

    Returns
    -------
    Model

    Raises
    ------
    UnknownModelError
        If no model has that name; the message names the nearest ones.
    CheckpointError
        If the file is damaged, foreign, or would run code.
    WeightsError
        If the weights cannot be had.
    DeviceError
        If the device does not exist on this machine, or ``backend`` does not run on it.
    MissingExtraError
        If ``backend`` is named and not installed.
    MemoryLimitError
        If the model does not fit into memory.
    TypeError
        If ``name_or_path`` is neither a text nor a path.
    ValueError
        If ``dtype`` is another type, or ``backend`` unknown.
    """
    if dtype != "auto" and dtype not in _DTYPES:
        names = ", ".join(map(str, _DTYPES))
        raise ValueError(f"dtype must be one of {names} or 'auto', got {dtype!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    where = checked_device(device)
    if dtype == "auto":
        dtype = suggested_dtype(where)
    with memory_limits(f"loading the model {name_or_path}", _smaller_models):
        checkpoint = load_checkpoint(name_or_path, show_progress=show_progress)
    size = sum(tensor.nbytes for tensor in checkpoint.state_dict.values())
    with memory_limits(
        f"loading the model {checkpoint.name}",
        lambda: f"its weights alone are {in_units(size)}; {_smaller_models()}",
    ):
        network = network_of(checkpoint).to(where, dtype)
    # Embeddings of another precision are other embeddings.
    precision = "" if dtype == torch.float32 else f"-{str(dtype).removeprefix('torch.')}"
    model_id = checkpoint.model_id + precision
    model = Model(network, model_id, checkpoint.path, checkpoint.passport)
    return model if backend == "torch" else with_backend(model, backend)


def with_backend(model: Model, backend: Backend) -> Model:
    """Return a model whose image encoder is run by something else, if that is right and faster.

    Parameters
    ----------
    model : Model
    backend : {"torch", "auto", "openvino", "onnxruntime", "compile"}
        A name is used if it agrees with PyTorch, ``"auto"`` also compares times.

    Raises
    ------
    MissingExtraError
        If a back end that was asked for by name is not installed.
    DeviceError
        If it does not run on the model's device.
    """
    if backend == "torch":
        return replace(model, encoder=None)
    ways = _WAYS if backend == "auto" else tuple(way for way in _WAYS if way.name == backend)
    if backend != "auto":
        _require(ways[0], model.device)
    if model.device.type != "cpu":  # The exported ones run on the CPU.
        ways = tuple(way for way in ways if way is COMPILE)
    choice = choose(
        model.network.image_encoder,
        _example(model),
        ways,
        home_directory() / "backends",
        identity=model.model_id,
        compares=backend == "auto",
    )
    return replace(model, encoder=choice.encoder)


def installed_backends() -> dict[str, bool]:
    """Return for each back end whether what it needs is installed."""
    return {"torch": True, **{way.name: way.is_installed for way in _WAYS}}


def _require(way: Way, device: torch.device) -> None:
    """Refuse a back end that was asked for by name and cannot be had here."""
    if device.type != "cpu" and way is not COMPILE:
        raise DeviceError(
            f"the back end {way.name} runs on the CPU, and the model is on {device}; take device "
            "'cpu', or one of the back ends torch, compile and auto"
        )
    if not way.is_installed:
        raise MissingExtraError(
            f"the back end {way.name} is not installed; {how_to_install('fast')}"
        )


def _example(model: Model) -> Tensor:
    """Return an input as large as the model's largest, of noise."""
    side = model.preprocessing.max_long_side
    noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return noise.to(model.device, model.dtype)


def network_of(checkpoint: LoadedCheckpoint) -> Sam:
    """Return the network of a checkpoint in evaluation mode, on the CPU, without gradients."""
    with NoInitialisation():
        network = build_sam(checkpoint.config)
    network.load_state_dict(checkpoint.state_dict)
    return network.eval().requires_grad_(requires_grad=False)


def checked_device(device: torch.device | str | None) -> torch.device:
    """Return a device that exists on this machine.

    Parameters
    ----------
    device : device, optional
        None for the first CUDA GPU, or the CPU where there is none.

    Raises
    ------
    DeviceError
        If there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    have = _devices()
    try:
        wanted = torch.device(device)
        is_there = wanted.type in have and (wanted.index or 0) < have[wanted.type]
    except (RuntimeError, TypeError):
        is_there = False
    if not is_there:
        names = [name if n == 1 else f"{name}:0 to {name}:{n - 1}" for name, n in have.items()]
        raise DeviceError(
            f"device {str(device)!r} is not available here (PyTorch {torch.__version__}); "
            f"there is {', '.join(names)}"
        )
    return wanted


def _devices() -> dict[str, int]:
    """Return the kinds of devices of this machine, and how many there are of each."""
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
    }
    return {name: count for name, count in counts.items() if count}


def _smaller_models() -> str:
    """Say which models are small."""
    return "the models 'default' and 'mobile_sam' need the least"
