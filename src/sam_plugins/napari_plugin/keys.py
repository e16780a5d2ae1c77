"""The keys of **Segment** in a window, and on layers whose own keys would come first.

They are bound here and not contributed in the manifest. npe2 has a field for keys, but napari
(0.6.2 to 0.9) registers the commands of a manifest without any, so that they would do nothing. And
a key of the manifest would be the whole program's: ``C`` or ``Delete`` would be ours also where
**Segment** is not open. Those that are bound here come before napari's own on a layer (``M`` and
``P`` of labels), and are gone when the widget is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sam_plugins.napari_plugin.actions import ACTIONS
from sam_plugins.napari_plugin.layers import role_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class KeyBindings:
    """Binds the keys of all actions for as long as it is open.

    Parameters
    ----------
    viewer : ViewerModel
    act : callable
        Called with the name of the action whose key is pressed.
    """

    def __init__(self, viewer: ViewerModel, act: Callable[[str], None]) -> None:
        self._act = act
        self._viewer = viewer
        self._bound: list[Any] = []
        self._lent: dict[str, list[Any]] = {}
        self._bind(viewer)

    def bind_on(self, layer: Layer | None) -> None:
        """Bind them on the selected layer, where they are meant for us: images, layers of ours."""
        if layer is not None and _is_for_us(layer):
            self._bind(layer)

    def lend(self, key: str, act: Callable[[], object] | None) -> None:
        """Let a key that is otherwise napari's do something for a while; None gives it back.

        Parameters
        ----------
        key : str
            None of an action.
        act : callable or None
        """
        targets = [self._viewer, self._viewer.layers.selection.active]
        if act is None:
            for target in self._lent.pop(key, []):
                target.bind_key(key, None)
        elif key not in self._lent:
            self._lent[key] = [target for target in targets if target is not None]
            for target in self._lent[key]:
                target.bind_key(key, lambda _: act(), overwrite=True)

    def close(self) -> None:
        """Leave the keys to napari."""
        for key in list(self._lent):
            self.lend(key, None)
        for target in self._bound:
            for action in ACTIONS:
                if action.key is not None:
                    target.bind_key(action.key, None)
        self._bound.clear()

    def _bind(self, target: Any) -> None:  # noqa: ANN401
        """Bind all keys on a viewer or a layer, once."""
        if any(target is known for known in self._bound):
            return
        self._bound.append(target)
        for action in ACTIONS:
            if action.key is not None:
                target.bind_key(action.key, self._on_key(action.name), overwrite=True)

    def _on_key(self, name: str) -> Callable[[Any], None]:
        """Return what a key does."""

        def act(target: Any) -> None:  # noqa: ANN401, ARG001
            self._act(name)

        return act


def _is_for_us(layer: Layer) -> bool:
    """Return whether keys on a layer are meant for us."""
    from napari.layers import Image

    return isinstance(layer, Image) or role_of(layer) is not None
