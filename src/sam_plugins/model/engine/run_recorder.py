"""What a run writes while it goes on: its log, for TensorBoard too, and pictures by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_plugins.errors import MissingExtraError, how_to_install
from sam_plugins.model.engine.held_out import Round
from sam_plugins.model.engine.run_folder import RunFolder
from sam_plugins.model.engine.run_pictures import write_curves, write_samples
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.io.labelled import LabelledFile


class RunRecorder:
    """Record a run in its folder; see :class:`~.fine_tuning.Run`.

    Parameters
    ----------
    folder : RunFolder
    with_tensorboard : bool
        Needs the package ``tensorboard``.
    is_first : bool
        Whether this is the process that writes.

    Raises
    ------
    MissingExtraError
        If ``tensorboard`` is not installed.
    """

    def __init__(
        self, folder: RunFolder, *, with_tensorboard: bool = False, is_first: bool = True
    ) -> None:
        self.folder = folder
        self._board: Any = None
        if with_tensorboard and is_first:
            self._board = _board(folder.path / "tensorboard")

    @property
    def state_path(self) -> Path:
        """The file to go on from."""
        return self.folder.state_path

    @property
    def way_on(self) -> str:
        """How people go on with it."""
        return f"go on from the last state with `sam-plugins train {self.folder.path} --resume`"

    @property
    def adapter_path(self) -> Path:
        """The folder of the best adapters."""
        return self.folder.adapter_path

    def rounds(self) -> list[Round]:
        """Return what was measured so far."""
        return self.folder.rounds()

    def write_rounds(self, rounds: Sequence[Round]) -> None:
        """Note what was measured."""
        self.folder.write_rounds(rounds)
        if self._board is not None and rounds and rounds[-1].share == 1:
            for name, value in rounds[-1].figures.items():
                self._board.add_scalar(f"held out/{name}", value, rounds[-1].step)
            self._board.flush()

    def cut_log(self, step: int) -> None:
        """Forget what was logged after a step."""
        self.folder.cut_log(step)

    def append_log(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Note the figures of a step."""
        self.folder.append_log(step, values, seconds)
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"training/{name}", value, step)

    def draw(self, model: Model, rounds: Sequence[Round], files: Sequence[LabelledFile]) -> None:
        """Draw curves, and what the model does after the last round."""
        samples = make_folder(self.folder.path / "samples")
        last = rounds[-1]
        part = "" if last.share == 1 else f"-part-{last.share:.0%}".rstrip("%")
        write_samples(samples / f"step-{last.step:06d}{part}.png", model, files)
        log = self.folder.log()
        if log:
            write_curves(self.folder.path / "curves.png", log, rounds)

    def close(self, *, is_complete: bool) -> None:
        """End the logs, and remove the state of a complete run, which nothing goes on from."""
        if self._board is not None:
            self._board.close()
        if is_complete:
            self.state_path.unlink(missing_ok=True)


def _board(folder: Path) -> Any:  # noqa: ANN401
    """Return TensorBoard's writer."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            "a log for TensorBoard needs the package tensorboard, which is not installed; "
            f"{how_to_install('train')}, or train without --tensorboard; log.csv holds the same "
            "figures"
        ) from error
    return SummaryWriter(str(folder))
