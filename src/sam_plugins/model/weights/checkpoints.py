"""The one reader and writer of weight files: bytes on disk to named tensors, and back.

What a file is, its first bytes say, not its suffix. Pickles are read by PyTorch's restricted
unpickler only, which builds tensors and runs nothing else: from PyTorch 2.10 on, which
pyproject.toml asks for. Releases before it had holes (CVE-2025-32434, CVE-2026-24747).
"""

from __future__ import annotations

import contextlib
import math
import pickle
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sam_plugins.errors import (
    CheckpointError,
    ForeignCheckpointError,
    MemoryLimitError,
    OutputError,
    UnsafeCheckpointError,
    is_out_of_memory,
)
from sam_plugins.model.io.atomic import atomic_path, make_folder
from sam_plugins.model.weights.passport import METADATA_KEY, Passport

# Where training programs put the weights among other things, the likeliest first.
_WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model", "sam", "net", "network")
_ENCODER = "image_encoder."
_TAR_MAGIC = slice(257, 262)  # Where a tar archive says what it is.
_NEWEST_PROTOCOL = 3  # of pickles that PyTorch's restricted unpickler understands; torch.save has 2
# How PyTorch's restricted unpickler names what it will not build.
_CODE = re.compile(r"(?:GLOBAL|unrecognized function|allowlisted via \S+ but got) (\S+)")


@dataclass(frozen=True)
class WeightFile:
    """The content of a file of weights.

    Parameters
    ----------
    state_dict : dict of str to Tensor
        Tensors on the CPU, floating ones in float32, without the prefixes of wrappers
        (``module.``, ``sam.``).
    passport : Passport or None
        Of our own files.
    left_aside : tuple of str
        What else the file held, for people: ``"decoder_state (62 tensors)"``.
    """

    state_dict: dict[str, Tensor]
    passport: Passport | None = None
    left_aside: tuple[str, ...] = ()


def read_weight_file(path: Path) -> WeightFile:
    """Read a file of weights, running no code of it.

    PyTorch files (with ``weights_only=True``, mapped into memory where the format allows) and
    safetensors files are told apart by their content. A state dict inside a wrapper is found, and
    the rest is named in ``left_aside``.

    Parameters
    ----------
    path : Path
        An existing file.

    Raises
    ------
    UnsafeCheckpointError
        If loading would have to run code or build objects that the file brings along.
    ForeignCheckpointError
        If the file holds no dictionary of tensors.
    CheckpointError
        If the file is missing, empty, cut short, damaged (PyTorch's own checksums are compared), or
        no weight file at all, or if a tensor has no plain values (sparse, quantised, "meta").
    MemoryLimitError
        If the weights do not fit into memory.
    """
    kind = _kind_of(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    content = _read_torch(path, is_zip=kind == "zip")
    state_dict, left_aside = _find_state_dict(content, path)
    state_dict, beside = _strip_prefix(state_dict, path)
    return WeightFile(_as_float32(state_dict, path), left_aside=(*left_aside, *beside))


def require_finite(state_dict: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that would make every answer NaN.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        The weights.
    path : Path
        Their file, for the message.

    Raises
    ------
    CheckpointError
        With the names of the first few tensors that hold NaN or infinity.
    """
    bad = [name for name, tensor in state_dict.items() if not _is_finite(tensor)]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise CheckpointError(
            f"{path} holds weights that are NaN or infinite ({', '.join(bad[:3])}{more}): the "
            "training that wrote it diverged, or the file is damaged. Take an earlier checkpoint, "
            "or download it again"
        )


def require_floating(weights: Mapping[str, Tensor]) -> None:
    """Refuse whole numbers and truth values, which PyTorch would take for weights without a word.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Those that a network has as floating numbers.

    Raises
    ------
    CheckpointError
        With the names of the first few tensors of another type.
    """
    bad = [f"{name} ({t.dtype})" for name, t in weights.items() if not t.is_floating_point()]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise CheckpointError(
            f"weights must be floating numbers, got {', '.join(bad[:3])}{more}: the file is "
            "quantised or damaged. Save model.state_dict() of the model as it was trained"
        )


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite; a sum is ten times faster than to look at each."""
    if not tensor.is_floating_point() or math.isfinite(float(tensor.sum())):
        return True
    return bool(torch.isfinite(tensor).all())  # Finite values may have a sum beyond float32.


def save_model_file(
    path: Path,
    state_dict: Mapping[str, Tensor],
    passport: Passport,
    *,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write a model file of ours: safetensors with the passport in its header.

    The file appears under its name when it is complete, never before.

    Parameters
    ----------
    path : Path
        Ends in ``.safetensors``; replaced if it exists.
    state_dict : mapping of str to Tensor
        The network's weights; integer tensors keep their type.
    passport : Passport
        What the file says of itself.
    dtype : torch.dtype
        Type of the floating tensors on disk, but for vectors (norms, biases) and the frequencies of
        the positional encoding, which stay float32; all are float32 again after reading.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ValueError
        If the suffix is another one, or a weight is not finite or does not fit ``dtype``.
    OutputError
        If the file cannot be written.
    MemoryLimitError
        If there is no memory for a copy of the weights in ``dtype``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"a model file must end in .safetensors, got {path.name!r}")
    with _enough_memory(f"preparing the model file {path}"):
        tensors = {name: _for_disk(name, tensor, dtype) for name, tensor in state_dict.items()}
    make_folder(path.parent)
    with atomic_path(path) as temporary:
        permissions = stat.S_IMODE(temporary.stat().st_mode)
        try:
            safetensors.torch.save_file(tensors, temporary, {METADATA_KEY: passport.to_json()})
            temporary.chmod(permissions)  # safetensors 0.8 puts a private file in its place.
        except safetensors.SafetensorError as error:
            raise OutputError(
                f"cannot write {path}: {error}; free some space or choose another folder"
            ) from error
    return path


def _for_disk(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor as it will be stored, refusing what the type cannot hold."""
    tensor = tensor.detach().to("cpu")
    if tensor.is_floating_point():
        # Norms, biases and frequencies weigh next to nothing, and half precision would shift the
        # phases of the positional encoding.
        is_small = tensor.ndim < 2 or name.endswith("positional_encoding_gaussian_matrix")
        cast = tensor.to(torch.float32 if is_small else dtype)
        if not bool(torch.isfinite(cast).all()):
            raise ValueError(
                f"{name} holds values that are not finite or do not fit {dtype} (largest "
                f"{float(tensor.abs().max()):g})"
            )
        tensor = cast
    return tensor.clone(memory_format=torch.contiguous_format)  # Apart from tensors that share it.


def _kind_of(path: Path) -> Literal["safetensors", "zip", "pickle"]:
    """Tell the format by the first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file of weights at {path}") from None
    except OSError as error:
        raise CheckpointError(
            f"cannot read the file of weights {path} ({error.strerror or error})"
        ) from error
    if not start:
        raise CheckpointError(f"{path} is empty: download or copy it again")
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if start[_TAR_MAGIC] == b"ustar":  # PyTorch would read it, as files of before 2017.
        raise CheckpointError(
            f"{path} is a tar archive and not a file of weights: unpack it and give the file inside"
        )
    if start[8:9] == b"{":  # After the length of the header, 8 bytes.
        return "safetensors"
    if start[0] == 0x80:  # The pickle's protocol opcode.
        _require_known_protocol(start, path)
        return "pickle"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path} is a web page and not weights: a login, licence or proxy page was saved in "
            "its place. Download it with a browser, or check the address"
        )
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer and not the weights themselves: run `git lfs pull`"
        )
    raise CheckpointError(
        f"{path} is no file of weights: expected PyTorch or safetensors, got {start[:16]!r}..."
    )


def _require_known_protocol(start: bytes, path: Path) -> None:
    """Refuse pickles that begin in a way that PyTorch's restricted unpickler does not know."""
    if start[:1] == b"\x80" and start[1:2] > bytes([_NEWEST_PROTOCOL]):
        raise CheckpointError(
            f"{path} holds a pickle of protocol {start[1]}, which torch.save does not write by "
            "itself and which cannot be read without running code: ask for a file of "
            "torch.save(model.state_dict(), ...), or a safetensors file"
        )


def _read_safetensors(path: Path) -> WeightFile:
    """Read a safetensors file, ours or another's."""
    try:
        with (
            _enough_memory_to_read(path),
            safetensors.safe_open(path, framework="pt", device="cpu") as file,
        ):
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    document = metadata.get(METADATA_KEY)
    state_dict = _as_float32(tensors, path)
    if document is None:
        state_dict, left_aside = _strip_prefix(state_dict, path)
        return WeightFile(state_dict, left_aside=left_aside)
    try:
        return WeightFile(state_dict, Passport.from_json(document))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_torch(path: Path, *, is_zip: bool) -> object:
    """Read a PyTorch file with the restricted unpickler."""
    if is_zip:
        _require_torch_archive(path)
    # Mapping needs a path, and for a path PyTorch believes the suffix ".safetensors".
    can_map = is_zip and path.suffix != ".safetensors"
    try:
        with _enough_memory_to_read(path):
            if can_map:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = _CODE.search(str(error))
        if wanted is None:
            raise _damaged(path, error) from error
        raise UnsafeCheckpointError(
            f"{path} was refused: reading it would run {wanted[1].strip('.')}, which came with the "
            "file. Weights need no code. If you trust its source, load it there and save only "
            "model.state_dict(), or ask for a safetensors file"
        ) from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        OSError,
        struct.error,
    ) as error:
        raise _damaged(path, error) from error


def _require_torch_archive(path: Path) -> None:
    """Refuse zip files that are cut short, damaged, or not PyTorch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2]: name for name in archive.namelist()}
            _require_torch_names(names, path)
            # PyTorch compares no checksum, and can be told to write zeros in their place.
            if any(record.CRC for record in archive.infolist()):
                damaged = archive.testzip()
                if damaged is not None:
                    raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
                _require_known_protocol(archive.read(names["data.pkl"]), path)
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, zlib.error) as error:
        raise _damaged(path, error) from error


def _require_torch_names(names: Collection[str], path: Path) -> None:
    """Refuse zip files whose members are not those of a checkpoint."""
    if "constants.pkl" in names:
        raise CheckpointError(
            f"{path} is a TorchScript program and not weights: ask for the checkpoint it was made "
            "from"
        )
    if "data.pkl" not in names:
        raise CheckpointError(
            f"{path} is a zip archive without PyTorch weights: unpack it and give the file inside"
        )


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    """Return the error for a file that begins like weights and is not whole."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if "weights_only" in reason:  # PyTorch advises to read the file without its safeguard.
        reason = "PyTorch's restricted reader does not understand it"
    return CheckpointError(
        f"{path} is cut short or damaged ({path.stat().st_size} bytes; {reason}): download or copy "
        "it again"
    )


def _find_state_dict(content: object, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the named tensors of a loaded file, wherever they hang, and what lies beside."""
    beside: list[str] = []
    for _ in range(3):  # Wrappers in wrappers.
        if not isinstance(content, Mapping):
            break
        tensors = {
            str(key): value.detach() for key, value in content.items() if isinstance(value, Tensor)
        }
        wrapper = next(
            (key for key in _WRAPPERS if isinstance(content.get(key), Mapping) and content[key]),
            None,
        )
        if wrapper is None or any(_ENCODER in name for name in tensors):
            beside += [
                _describe(str(key), value)
                for key, value in content.items()
                if not isinstance(value, Tensor)
            ]
            if tensors:
                return tensors, tuple(beside)
            break
        beside += [_describe(str(key), value) for key, value in content.items() if key != wrapper]
        content = content[wrapper]
    found = ", ".join(beside) if beside else f"a {type(content).__name__}"
    raise ForeignCheckpointError(
        f"{path} holds no dictionary of tensors: expected a state dict, got {found}"
    )


def count_tensors(part: str, count: int) -> str:
    """Return ``"part (2 tensors)"``."""
    return f"{part} ({count} tensor{'' if count == 1 else 's'})"


def _describe(key: str, value: object) -> str:
    """Name something that is left aside."""
    if isinstance(value, Mapping) and value and all(isinstance(v, Tensor) for v in value.values()):
        return count_tensors(key, len(value))
    return f"{key} ({type(value).__name__})"


def _strip_prefix(
    state_dict: dict[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Take off what wrappers put before the names of a promptable model's parts."""
    prefixes = {name.partition(_ENCODER)[0] for name in state_dict if _ENCODER in name}
    # A name such as "adapter.image_encoder_x" has no part of its own; only whole parts count.
    prefixes = {prefix for prefix in prefixes if not prefix or prefix.endswith(".")}
    if not prefixes:
        return _strip_common(state_dict), ()
    if len(prefixes) > 1:
        raise ForeignCheckpointError(
            f"{path} holds {len(prefixes)} models, under {sorted(prefixes)}: save the one that you "
            "want in a file of its own"
        )
    prefix = prefixes.pop()
    if not prefix:
        return state_dict, ()
    inside = {n.removeprefix(prefix): t for n, t in state_dict.items() if n.startswith(prefix)}
    outside: dict[str, int] = {}
    for name in state_dict:
        if not name.startswith(prefix):
            part = name.partition(".")[0]
            outside[part] = outside.get(part, 0) + 1
    return inside, tuple(count_tensors(part, count) for part, count in outside.items())


def _strip_common(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off ``module.`` and ``model.`` where every name has it (encoders without a model)."""
    for prefix in ("module.", "model."):
        if all(name.startswith(prefix) for name in state_dict):
            state_dict = {name.removeprefix(prefix): t for name, t in state_dict.items()}
    return state_dict


def _as_float32(state_dict: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return floating tensors in float32, others as they are."""
    for name, tensor in state_dict.items():
        _require_plain(name, tensor, path)
    with _enough_memory_to_read(path):
        return {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in state_dict.items()
        }


def _require_plain(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse tensors that are not simply an array of numbers."""
    if tensor.is_meta:
        kind = "has a shape and no values (PyTorch's device meta)"
    elif tensor.layout != torch.strided:
        kind = f"is sparse ({tensor.layout})"
    elif tensor.is_quantized or tensor.is_complex():
        kind = f"has values of type {tensor.dtype}"
    else:
        return
    raise CheckpointError(
        f"{path}: {name} {kind}. Load it where it was made, and save model.state_dict() with plain "
        "floating tensors on the CPU"
    )


def _enough_memory_to_read(path: Path) -> contextlib.AbstractContextManager[None]:
    """Return :func:`_enough_memory` for a file of weights."""
    return _enough_memory(f"reading the weights {path} ({path.stat().st_size / 1e6:.0f} MB)")


@contextlib.contextmanager
def _enough_memory(what: str) -> Iterator[None]:
    """Tell memory that ran out from files that are damaged: both come as the same exceptions."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError, safetensors.SafetensorError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryLimitError(
            f"{what} ran out of memory; close other programs, or take a smaller model: 'default' "
            "and 'mobile_sam' need the least"
        ) from error
