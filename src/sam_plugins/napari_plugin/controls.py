"""Controls made by magicgui from the fields of a parameter class.

A field's metadata give what its type does not: ``label``, ``tooltip``, and the options of the
widget, such as ``min``, ``max``, ``step``, ``choices`` or ``widget_type``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from magicgui.widgets import Container, create_widget
from psygnal import Signal
from qtpy.QtWidgets import QAbstractSpinBox, QLabel, QSlider, QWidget

from sam_plugins.errors import SamPluginsError
from sam_plugins.napari_plugin.notifications import show_problem

T = TypeVar("T")


class InputError(SamPluginsError):
    """Somebody chose a value that cannot be."""


class Controls(Generic[T]):
    """A form for a parameter class; ``changed`` tells of every new value that is allowed.

    Parameters
    ----------
    params : dataclass instance
        Shown at first.
    groups : sequence of sequence of str, optional
        Names of the fields of each of several forms; by default one form has all.

    Attributes
    ----------
    forms : tuple of Container
        One for each group.
    """

    changed = Signal(object)

    def __init__(self, params: T, groups: Sequence[Sequence[str]] = ()) -> None:
        self._params = params
        known = {field.name: field for field in dataclasses.fields(params)}  # type: ignore[arg-type]
        self._widgets: dict[str, Any] = {}
        forms: list[Container[Any]] = []
        for names in groups or [tuple(known)]:
            for name in names:
                self._widgets[name] = _control(known[name], getattr(params, name))
            forms.append(Container(widgets=[self._widgets[name] for name in names], labels=True))
            forms[-1].changed.connect(self._on_changed)
        self.forms = tuple(forms)

    @property
    def form(self) -> Container[Any]:
        """The first form, or the only one."""
        return self.forms[0]

    @property
    def params(self) -> T:
        """The values that are shown."""
        return self._params

    def set(self, **values: object) -> None:
        """Show other values."""
        for name, value in values.items():
            self._widgets[name].value = value

    def _on_changed(self) -> None:
        """Read the form; values that cannot be are told of, and the ones before stay."""
        values = {name: widget.value for name, widget in self._widgets.items()}
        try:
            params = dataclasses.replace(self._params, **values)  # type: ignore[type-var]
        except ValueError as error:
            show_problem(InputError(str(error)))
            return
        if params != self._params:
            self._params = params
            self.changed.emit(params)


def _control(field: dataclasses.Field[Any], value: Any) -> Any:  # noqa: ANN401
    """Return the control of a field."""
    options = dict(field.metadata)
    tooltip = options.pop("tooltip")
    widget: Any = create_widget(
        value=value,
        annotation=type(value),
        name=field.name,
        label=options.pop("label"),
        widget_type=options.pop("widget_type", None),
        options=options,
    )
    widget.tooltip = tooltip
    _show_number(widget)
    return widget


def _show_number(widget: Any) -> None:  # noqa: ANN401
    """Show the number of a slider as text: napari's style leaves no room in magicgui's box."""
    native: QWidget = widget.native
    layout = native.layout()
    if native.findChild(QSlider) is None or layout is None:
        return
    for box in native.findChildren(QAbstractSpinBox):
        box.hide()
    number = QLabel(f"{widget.value:.2f}")
    number.setMinimumWidth(36)
    layout.addWidget(number)
    widget.changed.connect(lambda value: number.setText(f"{value:.2f}"))
