"""What a labelling config means for this backend, and what it lacks, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sam_plugins.labelstudio_backend.label_config import (
    LEARNED,
    SHAPES,
    Control,
    LabelConfig,
    read_config,
)
from sam_plugins.labelstudio_backend.target import choose_target, target_of_found

__all__ = ["ConfigReport", "check_config", "explain_learning"]

_MASKS = ("brush", "bitmask", "polygon")


@dataclass(frozen=True)
class ConfigReport:
    """What was found.

    Parameters
    ----------
    means : sequence of str
        What each prompt is answered with.
    problems : sequence of str
        What will not work, with the cure.
    advice : sequence of str
        What would work better.
    """

    means: Sequence[str]
    problems: Sequence[str]
    advice: Sequence[str]


def check_config(text: str, *, output: str = "auto") -> ConfigReport:
    """Explain a labelling config.

    Parameters
    ----------
    text : str
        XML.
    output : str
        The shape of answers that is wanted, as in the settings.

    Raises
    ------
    ConfigError
        If it cannot be read at all.
    """
    config = read_config(text)
    means: list[str] = []
    problems = _misnamed(config)
    advice: list[str] = []
    for image in config.images:
        if not image.key:
            problems.append(f'<Image name="{image.name}"> needs value="$image"')
        holds = list(config.of(image.name, *SHAPES))
        asks = list(config.of(image.name, "keypoint", "rectangle", "textarea"))
        if not holds:
            problems.append(
                f"nothing can hold a region of {image.name!r}: add <BrushLabels> or, beside "
                f'<Labels>, <Brush name="mask" toName="{image.name}"/>'
            )
            continue
        means += [
            line for control in asks for line in _meaning(config, image.name, control, output)
        ]
        if not any(control.is_smart for control in asks):
            problems.append(
                f"no smart tool asks about {image.name!r}: add <KeyPoint> or <KeyPointLabels> with "
                'smart="true"; the model is then asked for batches only'
            )
        means += _found(config, image.name, output)
        if any(config.of(image.name, *LEARNED)):
            means.append(explain_learning(config, image.name))
        problems += _unmatched(config, image.name, asks, output)
        problems += _useless(holds)
        advice += _advice(config, image.name, asks)
    return ConfigReport(*map(_once, (means, problems, advice)))


def _once(lines: Sequence[str]) -> list[str]:
    """Return each line once: several pictures often have the same to be said of them."""
    return list(dict.fromkeys(lines))


def explain_learning(config: LabelConfig, to_name: str) -> str:
    """Say what the model learns from the annotations of a picture.

    Parameters
    ----------
    config : LabelConfig
    to_name : str
        The picture.
    """
    learned = [f'"{one.name}" ({one.tag})' for one in config.of(to_name, *LEARNED)]
    if learned:
        return f"the model learns from {', '.join(learned)}"
    cure = "add <BrushLabels>, <BitmaskLabels> or <PolygonLabels>, or bare tags beside <Labels>"
    if not any(config.of(to_name, *SHAPES)):
        return f"{to_name!r} is neither answered nor learned from: nothing holds a region; {cure}"
    return (
        f"{to_name!r} is answered, but the model learns nothing from it: a rectangle is no mask; "
        f"{cure}"
    )


def _meaning(config: LabelConfig, to_name: str, control: Control, output: str) -> list[str]:
    """Say what a control is answered with."""
    if control.kind == "textarea" and not config.takes_words(control.name):
        return [f'a text in "{control.name}" is a comment: nothing is asked with it']
    if control.kind == "textarea":
        told = (
            f'a text in "{control.name}": a label finds more like its accepted regions, "all" '
            "finds every object, other words need a CLIP"
        )
        return [told]
    if not control.is_smart:
        return [f'"{control.name}" ({control.tag}) is not smart: nothing is asked with it']
    what = "a click" if control.kind == "keypoint" else "a box"
    lines: dict[str, list[str]] = {}
    owners = _labelling(config, to_name, control)
    for label in [one.value for owner in owners for one in owner.labels] or [""]:
        target = choose_target(config, to_name, prompt=control.name, label=label, output=output)
        beside = f' with labels of "{target.label_control.name}"' if target.label_control else ""
        told = f'as {target.shape.kind} in "{target.shape.name}" ({target.shape.tag}){beside}'
        lines.setdefault(told, []).append(label)
    return [
        f'{what} of "{control.name}" ({control.tag}) is answered {told}'
        + (f", labelled {' or '.join(labels)}" if len(lines) > 1 else "")
        for told, labels in lines.items()
    ]


def _found(config: LabelConfig, to_name: str, output: str) -> list[str]:
    """Say which of several labels objects get that the model finds by itself."""
    target = target_of_found(config, to_name, output=output)
    labels = target.labelled_by.labels
    if len(labels) < 2:
        return []
    is_selected = any(one.is_selected for one in labels)
    why = 'it is selected="true"' if is_selected else 'the first; selected="true" marks another'
    told = (
        f'what the model finds by itself is labelled "{target.label}" ({why}, and '
        "SAM_PLUGINS_LS_AUTO_LABEL overrules)"
    )
    return [told]


def _unmatched(
    config: LabelConfig, to_name: str, asks: Sequence[Control], output: str
) -> list[str]:
    """Name labels of prompts that the answering control does not have."""
    problems = []
    for control in asks:
        if not control.is_smart:
            continue
        for owner in _labelling(config, to_name, control):
            for label in owner.labels:
                target = choose_target(
                    config, to_name, prompt=owner.name, label=label.value, output=output
                )
                problems.append(target.complaint(label.value, owner.name))
    return [problem for problem in problems if problem]


def _labelling(config: LabelConfig, to_name: str, control: Control) -> list[Control]:
    """Return where the labels of a prompt are: in its own tag, or in the lists beside it."""
    return [control] if control.has_labels else list(config.of(to_name, "labels"))


def _misnamed(config: LabelConfig) -> list[str]:
    """Name controls that are for nothing, and those that cannot be told apart."""
    pictures = " or ".join(f'toName="{image.name}"' for image in config.images)
    lost = [
        f'"{control.name}" ({control.tag}) is for {name!r}, and no tag has that name: '
        f"write {pictures}"
        for control in config.lost
        for name in control.to_names or ("",)
        if name not in config.names
    ]
    doubled = [
        f"{count} tags have the name {name!r}, and what is drawn with one is taken for the "
        "other's: give each a name of its own"
        for name, count in Counter(config.names).items()
        if count > 1
    ]
    return [*lost, *doubled]


def _useless(holds: Sequence[Control]) -> list[str]:
    """Name smart attributes that Label Studio does not heed."""
    return [
        f'smart="true" on "{control.name}" ({control.tag}) sends nothing in Label Studio 1.23: '
        "ask with key points or rectangles"
        for control in holds
        if control.kind in {"polygon", "ellipse", "brush", "bitmask"}
        and control.attributes.get("smart", "").lower() == "true"
    ]


def _advice(config: LabelConfig, to_name: str, asks: Sequence[Control]) -> list[str]:
    """Say what would work better."""
    advice = []
    if sum(control.has_labels for control in asks) > 1:
        advice.append(
            "with one shared <Labels> list beside bare <KeyPoint>, <Rectangle> and <Brush> tags "
            "the label stays selected after a click, and accepted regions are not stored twice"
        )
    advice += [
        f'write smart="false" on "{control.name}" ({control.tag}): Auto-Detect offers it, too, '
        "otherwise, and it asks nothing there"
        for control in config.of(to_name, "brush", "bitmask")
        if "smart" not in control.attributes
    ]
    kinds = {control.kind for control in config.of(to_name, *_MASKS)}
    if kinds == {"brush"}:
        tag = next(config.of(to_name, "brush")).tag
        advice.append(
            f"{tag.replace('Brush', 'Bitmask')} in place of {tag} makes annotations four to five "
            "times smaller"
        )
    if not any(config.of(to_name, *LEARNED)):
        advice.append(explain_learning(config, to_name))
    elif not kinds:
        advice.append("answers are ellipses: add <BrushLabels> to keep masks")
    return advice
