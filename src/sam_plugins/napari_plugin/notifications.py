"""Errors as napari shows them: what happened and what to do; a traceback for our own mistakes."""

from __future__ import annotations

from napari.utils.notifications import (
    Notification,
    notification_manager,
    show_error,
    show_info,
    show_warning,
)

from sam_plugins.errors import SamPluginsError, is_out_of_memory, memory_doubt

__all__ = ["show_info", "show_problem", "show_warning"]


def show_problem(error: BaseException) -> None:
    """Show an error; those that we wrote for people come without a traceback."""
    if isinstance(error, SamPluginsError):
        show_error(str(error))
    elif is_out_of_memory(error):
        show_error(
            f"Memory ran out{memory_doubt(error)} ({error}). Close other programs, or choose a "
            "smaller model ('default' and 'mobile_sam' need the least) or a smaller picture"
        )
    else:
        notification_manager.dispatch(Notification.from_exception(error))
