"""What is said of an error, and pictures that fail while the rest go on."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sam_plugins.cli.console import complain, is_terminal
from sam_plugins.cli.wording import in_options
from sam_plugins.errors import (
    MemoryLimitError,
    OutputError,
    SamPluginsError,
    is_out_of_memory,
    memory_doubt,
)

SMALLER_COPY = "save a crop or a reduced copy of it as its own file"
"""What to do about any picture for which there is not enough memory."""


def explained(error: Exception) -> str:
    """Return what a user can do something with: the message of an error, in options.

    Parameters
    ----------
    error : Exception
        Of ours, of the system, or one that nobody thought of.
    """
    if isinstance(error, SamPluginsError):
        return in_options(str(error))
    if is_out_of_memory(error):
        return (
            f"memory ran out{memory_doubt(error)}; close other programs, and allow this one more "
            "where it is limited (ulimit -v, a container)"
        )
    if isinstance(error, OSError | ValueError):
        return in_options(str(error)) or type(error).__name__
    if isinstance(error, ImportError):
        return f"cannot load a part of the installation: {error}; install sam-plugins again"
    return (
        f"internal error: {type(error).__name__}: {error}; this is a mistake of sam-plugins: "
        "run the command again with --debug and report what it prints"
    )


@dataclass
class Failures:
    """What failed, said at once and kept for the summary.

    Parameters
    ----------
    with_traceback : bool
        Whether the traceback of each failure is shown (``--debug``).
    entries : list of dict
        ``image`` and ``error`` of each failure, for JSON.
    """

    with_traceback: bool = False
    entries: list[dict[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many failed."""
        return len(self.entries)

    def add(self, image: object, error: Exception) -> None:
        """Report a failure, by the name of the picture."""
        message = explained(error)
        if str(image) not in message and not isinstance(error, OutputError):
            message = f"{image}: {message}"
        if self.with_traceback:
            traceback.print_exception(error)
        complain(f"error: {message}")
        self.entries.append({"image": str(image), "error": message})

    @contextlib.contextmanager
    def caught(
        self, image: object, smaller: Callable[[], str] = lambda: SMALLER_COPY
    ) -> Iterator[None]:
        """Report what goes wrong with a picture within the block; the program goes on after it.

        Parameters
        ----------
        image : object
            The picture by name.
        smaller : callable, optional
            Says how less memory would do; called only when it ran out.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001  # a mistake of ours costs one picture, not all
            if is_out_of_memory(error) and not isinstance(error, SamPluginsError):
                limit = MemoryLimitError(
                    f"not enough memory for {image}{memory_doubt(error)}; {smaller()}"
                )
                limit.__cause__ = error
                error = limit
            self.add(image, error)

    def summarise(self, done: int, verb: str) -> None:
        """Say how many pictures worked, where a single message did not say all."""
        if self.entries and (done or len(self) > 1 or is_terminal()):
            names = ", ".join(entry["image"] for entry in self.entries)
            complain(f"{done} of {done + len(self)} {verb}, {len(self)} failed: {names}")
