"""What the server needs of the part that learns from annotations.

:class:`~sam_plugins.labelstudio_backend.learning.backend.BackendLearning` is that part.
"""

from __future__ import annotations

from typing import Any, Protocol


class Learning(Protocol):
    """Takes events of Label Studio in, and knows the versions that came of them."""

    def on_webhook(self, payload: dict[str, Any]) -> None:
        """Queue an event; returns within 100 ms."""

    def on_project(self, project: str, label_config: str = "") -> None:
        """Hear of a project that was connected; cheap, and never fails."""

    def versions(self, project: str | None) -> list[str]:
        """Return the model versions of a project, or of all."""

    def status(self) -> dict[str, Any]:
        """Return what the status page shows."""
