"""The errors that a user of the package can meet.

Wrong arguments raise :class:`ValueError` or :class:`TypeError`. Everything that the world does to
us (a missing file, a broken download, a full disk) is a child of :class:`SamPluginsError`, and its
message says what was expected, what was found and what to do::

    SamPluginsError
    ├── ImageError
    │   ├── UnreadableImageError     the file cannot be opened or decoded
    │   └── UnusableImageError       the array is empty, all NaN, or of a shape that is no picture
    ├── DatasetError                 a folder of labelled pictures lacks what it should hold
    ├── WeightsError
    │   ├── UnknownModelError        no model of that name
    │   ├── DownloadError            the file could not be fetched (offline, refused, cut short)
    │   ├── HashMismatchError        the file is not the one that was promised
    │   ├── UnsuitableModelError     the model lacks a part that the work needs
    │   ├── StoreError               the model store lacks a version or cannot be used
    │   │   └── PromotionError           the version is not better than the one in use
    │   └── CheckpointError
    │       ├── UnsafeCheckpointError    reading the file would run code
    │       └── ForeignCheckpointError   no architecture that we know
    ├── LabelStoreError              the label store lacks what it should hold, or cannot be used
    ├── ProjectError                 the folder is no project of the data engine, or lacks something
    │   └── ProjectBusyError             another job is at work on the project
    ├── MissingExtraError            a library is not installed that an extra brings
    ├── CacheError                   the embedding cache cannot be written or read
    ├── OutputError                  a result cannot be written
    ├── DeviceError                  the device does not exist on this machine
    ├── MemoryLimitError             the work does not fit into memory
    ├── TrainingError                training stopped (NaN loss, disk full, nothing to learn from)
    │   └── FolderBusyError              another process is at work on the run
    ├── ClusterError                 a scheduler or its workers cannot be used
    │   └── TaskLostError                one task took its workers with it
    ├── ListenError                  a server cannot listen where it was told to
    ├── LabelStudioError             Label Studio cannot be reached, or refuses
    └── LearningError                what a backend learns from cannot be kept or read
"""

from __future__ import annotations

import errno

_PRIMITIVE = "could not create a primitive"  # how oneDNN says it, whatever the cause
_UNSAID = (  # Python, where a library swallowed its MemoryError
    "error return without exception set",
    "without setting an exception",
)
_NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "failed to map segment from shared object",  # of a library, by the dynamic linker
    "bad_alloc",
    "bad allocation",
    "could not create a memory",
    "paging file is too small",
    _PRIMITIVE,
    *_UNSAID,
)
"""How NumPy, PyTorch, CUDA, oneDNN, C++ and systems say that memory ran out."""


class SamPluginsError(Exception):
    """Base of every error that this package raises for reasons outside the caller's arguments."""


class ImageError(SamPluginsError):
    """A picture cannot be used."""


class UnreadableImageError(ImageError):
    """A file cannot be opened or decoded as a picture."""


class UnusableImageError(ImageError, ValueError):
    """An array holds no picture: empty, without any finite value, or of an impossible shape."""


class DatasetError(SamPluginsError):
    """A folder of labelled pictures cannot be used: parts are missing or do not fit together."""


class LabelStoreError(SamPluginsError):
    """The label store lacks what was asked for, or cannot be read or written."""


class WeightsError(SamPluginsError):
    """Model weights cannot be had."""


class UnknownModelError(WeightsError, KeyError):
    """No model of the given name is known."""

    def __str__(self) -> str:
        """Return the plain message (``KeyError`` would show its ``repr``)."""
        return str(self.args[0]) if self.args else ""


class DownloadError(WeightsError):
    """A file of weights could not be fetched."""


class HashMismatchError(WeightsError):
    """A file of weights differs from what its registry entry promises."""


class UnsuitableModelError(WeightsError, ValueError):
    """A model lacks a part that the work needs, such as an instance decoder."""


class StoreError(WeightsError):
    """The model store lacks what was asked for, or cannot be used."""


class PromotionError(StoreError):
    """A version is not shown to be better than the one in use."""


class CheckpointError(WeightsError):
    """A file of weights cannot be read."""


class UnsafeCheckpointError(CheckpointError):
    """Reading a file of weights would run code that came with it."""


class ForeignCheckpointError(CheckpointError):
    """A file of weights belongs to no architecture that we know."""


class ProjectError(SamPluginsError):
    """A project of the data engine cannot be used, or lacks what was asked for."""


class ProjectBusyError(ProjectError):
    """Another job is at work on a project."""


class MissingExtraError(SamPluginsError, ImportError):
    """A library is not installed that one of the extras of this package brings."""


class CacheError(SamPluginsError):
    """The embedding cache cannot be read or written."""


class OutputError(SamPluginsError):
    """A result cannot be written."""


class DeviceError(SamPluginsError, ValueError):
    """The device that was asked for does not exist on this machine."""


class MemoryLimitError(SamPluginsError, MemoryError):
    """The work does not fit into the memory of this machine."""


class TrainingError(SamPluginsError):
    """Training cannot start or had to stop."""


class FolderBusyError(TrainingError):
    """Another process is at work on the run in a folder."""


class ClusterError(SamPluginsError):
    """A scheduler cannot be reached, or its workers cannot do the work."""


class TaskLostError(ClusterError):
    """The workers that tried one task were lost one after the other; others may do well."""


class ListenError(SamPluginsError):
    """A server cannot listen where it was told to."""


class LabelStudioError(SamPluginsError):
    """Label Studio cannot be reached, or refuses.

    Parameters
    ----------
    message : str
        With what to do.
    status : int or None
        The HTTP status, where there was an answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class LearningError(SamPluginsError):
    """What a Label Studio backend learns from cannot be kept or read."""


def how_to_install(extra: str) -> str:
    """Return how an extra of this package is installed, which depends on where that came from.

    Examples
    --------
    >>> print(how_to_install("scale"))
    install the extra scale: pip install "sam-plugins[scale]", or in a clone pip install ".[scale]"
    """
    return (
        f'install the extra {extra}: pip install "sam-plugins[{extra}]", or in a clone pip install '
        f'".[{extra}]"'
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, in whichever library it did.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("could not create a primitive"))
    True
    >>> is_out_of_memory(SystemError("error return without exception set"))
    True
    >>> is_out_of_memory(SystemError("<function f> returned NULL without setting an exception"))
    True
    >>> is_out_of_memory(RuntimeError("shapes differ"))
    False
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = _words(error)
    return not isinstance(error, SamPluginsError) and any(sign in text for sign in _NO_MEMORY)


def memory_doubt(error: BaseException) -> str:
    """Return what follows "memory ran out" where the error may mean something else as well.

    Examples
    --------
    >>> memory_doubt(RuntimeError("could not create a primitive"))
    ', or oneDNN failed for another reason'
    >>> memory_doubt(MemoryError())
    ''
    """
    text = _words(error)
    if any(sign in text for sign in _UNSAID):
        return ", or a library failed without a reason"
    return ", or oneDNN failed for another reason" if _PRIMITIVE in text else ""


def _words(error: BaseException) -> str:
    """Return what an error says in small letters, without the file that one of the system names."""
    return str(getattr(error, "strerror", None) or error).lower()
