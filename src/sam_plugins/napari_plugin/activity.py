"""Jobs in napari's activity dock, with the time left and a button that cancels."""

from __future__ import annotations

import io
from collections.abc import Callable

from napari.utils.progress import cancelable_progress


class _Bar(cancelable_progress):
    """A progress bar of napari whose button ends the job at once."""

    def cancel(self) -> None:
        """End the job; napari's own cancel only marks a loop that this is not."""
        super().cancel()
        if self.cancel_callback is not None:
            self.cancel_callback()


class ActivityDisplay:
    """A job in the activity dock; see :class:`~sam_plugins.napari_plugin.jobs.ProgressDisplay`."""

    def __init__(self) -> None:
        self._bar: _Bar | None = None

    def start(self, title: str, cancel: Callable[[], None]) -> None:
        """Show a job that begins."""
        # Without a viewer the bar would go to the terminal.
        self._bar = _Bar(total=0, desc=title, cancel_callback=cancel, file=io.StringIO())

    def update(self, done: int, total: int, seconds_left: float | None) -> None:  # noqa: ARG002
        """Show how far it is; the bar estimates the time left itself."""
        bar = self._bar
        if bar is None or total <= 0:
            return
        if bar.total != total:
            bar.total = total
        if done != bar.n:
            bar.update(done - bar.n)

    def close(self) -> None:
        """Show it no longer."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
