"""What people meet who segment in a window."""

from __future__ import annotations

from sam_plugins.errors import SamPluginsError


class NothingThereError(SamPluginsError):
    """A prompt or an edit is about something that is not there, or not ready."""
