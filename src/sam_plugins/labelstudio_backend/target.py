"""Which control of the config a region is answered with, and under which label."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sam_plugins.labelstudio_backend.label_config import (
    SHAPES,
    ConfigError,
    Control,
    LabelConfig,
)

_MASKS = ("brush", "bitmask", "polygon")


@dataclass(frozen=True)
class Target:
    """Where a region goes.

    Parameters
    ----------
    to_name : str
        The picture.
    shape : Control
        What draws it.
    label_control : Control, optional
        The list that labels it, where that is a tag of its own.
    label : str
        Empty for none; never one that the config does not have there.
    """

    to_name: str
    shape: Control
    label_control: Control | None = None
    label: str = ""

    @property
    def labelled_by(self) -> Control:
        """The control with the labels."""
        return self.label_control or self.shape

    def complaint(self, label: str, prompt: str) -> str:
        """Return what is wrong with a label of a prompt here, and the cure; empty where nothing is.

        Parameters
        ----------
        label : str
            Of what asks.
        prompt : str
            Name of the control that it is a label of.
        """
        owner = self.labelled_by
        if not label or not owner.knows_its_labels or owner.label(label) is not None:
            return ""
        then = f'called "{self.label}"' if self.label else "answered without a label"
        return (
            f'label "{label}" of "{prompt}" is none of "{owner.name}", which has '
            f"{', '.join(one.value for one in owner.labels)}: its regions are {then}; give both "
            f'the same labels, or write alias="{label}" there'
        )


def choose_target(
    config: LabelConfig, to_name: str, *, prompt: str = "", label: str = "", output: str = "auto"
) -> Target:
    """Return where a region goes.

    Parameters
    ----------
    config : LabelConfig
    to_name : str
        The picture.
    prompt : str
        ``from_name`` of what asked for the region.
    label : str
        Of what asked for it: its value, an alias, or one of the ``predicted_values``.
    output : str
        The shape that is wanted; "auto" for the one that says most about a mask.

    Raises
    ------
    ConfigError
        If no control can hold a region.
    """
    asked = config.control(prompt)
    is_shared = asked is not None and not asked.has_labels
    lists = list(config.of(to_name, "labels"))
    if asked is not None and asked.kind == "labels":
        lists.sort(key=lambda control: control.name != asked.name)
    candidates = list(config.of(to_name, *SHAPES))
    if not candidates:
        raise ConfigError(
            f"the labelling config has no control that can hold a region of {to_name!r}; add one, "
            f'such as <BrushLabels name="mask" toName="{to_name}">'
        )

    def rank(control: Control) -> tuple[bool, bool, bool, bool, int]:
        labels = control if control.has_labels else (lists[0] if lists else None)
        carries = bool(label) and labels is not None and labels.label(label) is not None
        return (
            output != "auto" and control.kind != output,
            control.kind not in _MASKS,  # boxes are what one asks with, before what one gets
            not carries,
            control.has_labels == is_shared and bool(lists),
            SHAPES.index(control.kind),
        )

    chosen = min(candidates, key=rank)
    label_control = None
    if not chosen.has_labels and lists:
        carrying = [control for control in lists if label and control.label(label)]
        label_control = (carrying or lists)[0]
    offered = list(asked.labels) if asked is not None else []
    if asked is not None and not asked.has_labels:
        offered = [one for control in lists for one in control.labels]
    told = _label(label_control or chosen, label, is_choice=len(offered) > 1)
    return Target(to_name, chosen, label_control, told)


def target_of_found(
    config: LabelConfig, to_name: str, *, label: str = "", output: str = "auto"
) -> Target:
    """Return where objects go that the model found by itself.

    Nobody said what they are. Without a label the editor draws them black, hardly to be seen, and
    each would have to be selected to be labelled: so they get the label that the config selects,
    or its first one.

    Parameters and errors are those of :func:`choose_target`; ``label`` is what somebody said that
    all of them are.
    """
    target = choose_target(config, to_name, label=label, output=output)
    labels = target.labelled_by.labels
    if target.label or not labels:
        return target
    presumed = next((one for one in labels if one.is_selected), labels[0])
    return replace(target, label=presumed.value)


def _label(owner: Control, label: str, *, is_choice: bool) -> str:
    """Return a label as its control writes it; none for a label that it does not have.

    Where one label is all that can be asked with and all that can be answered, it is that one,
    whatever both are called.
    """
    known = owner.label(label) if label else None
    if known is not None:
        return known
    if len(owner.labels) == 1 and not (label and is_choice):
        return owner.labels[0].value
    if owner.knows_its_labels or not owner.has_labels:
        return ""
    return label
