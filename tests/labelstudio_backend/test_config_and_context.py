"""Labelling configs, and prompts from percent to pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.labelstudio_backend.payloads import box, click, in_two, own, shared

from sam_plugins.cli import main
from sam_plugins.labelstudio_backend.config_check import check_config
from sam_plugins.labelstudio_backend.context import in_pixels, read_prompts
from sam_plugins.labelstudio_backend.label_config import ConfigError, read_config
from sam_plugins.labelstudio_backend.problems import PayloadError

SIZE = (240, 320)


def test_a_config_is_read_with_labels_and_pages() -> None:
    config = read_config(own().replace('value="$image"', 'valueList="$pages"'))
    assert (config.images[0].key, config.images[0].is_list) == ("pages", True)
    assert [control.kind for control in config.controls] == ["keypoint", "rectangle", "brush"]
    for kind in ("keypoint", "rectangle", "brush"):
        (control,) = config.of("image", kind)
        assert [label.value for label in control.labels] == ["Cell", "Debris"]
    assert read_config(shared()).control("lab") is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("<View>", "is no XML"),
        ("<View/>", "shows no picture"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "must not have a document type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><View/>', "must not have a document type"),
        ("<a>" * 300, "nested deeper"),
        ("<View>" + " " * 3_000_000, "at most"),
    ],
)
def test_a_config_that_cannot_be_used_says_why(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_config(text)


def test_points_of_a_label_are_one_ask_and_boxes_one_each() -> None:
    items = [click(10, 20), click(30, 40, is_positive=False), box(0, 0, 9, 9), box(5, 5, 20, 20)]
    (page,) = read_prompts(items, read_config(own()))
    points, first, second = page.asks
    assert [one.is_positive for one in points.clicks] == [True, False]
    pixels = in_pixels(points, SIZE)
    np.testing.assert_allclose(pixels.points_xy, [[10, 20], [30, 40]], atol=1e-9)
    np.testing.assert_allclose(in_pixels(first, SIZE).box_xyxy, [-0.5, -0.5, 8.5, 8.5], atol=1e-9)
    assert second.box is not None


def test_both_styles_say_the_same() -> None:
    (alone,) = read_prompts([click(10, 20)], read_config(own()))
    (two,) = read_prompts(in_two(click(10, 20)), read_config(shared()))
    assert alone.asks[0].clicks == two.asks[0].clicks
    assert (two.asks[0].control, two.asks[0].label) == ("lab", "Cell")


def test_answers_repeated_under_a_prompts_type_are_no_prompts() -> None:
    doubled = click(1, 1)
    doubled["value"] = {"rle": [1, 2], "keypointlabels": ["Cell"]}
    other = {"type": "choices", "value": {"choices": ["x"]}}
    assert read_prompts([doubled, other], read_config(own())) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": {"y": 3}}, "must have the number 'x'"),
        ({"value": {"x": float("nan"), "y": 3}}, "must have the number 'x'"),
        ({"value": {"x": True, "y": 3}}, "must have the number 'x'"),
        ({"image_rotation": 45}, "must be 0, 90, 180 or 270"),
    ],
)
def test_a_prompt_that_cannot_be_read_says_why(change: dict[str, object], reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        read_prompts([{**click(1, 1), **change}], read_config(own()))
    (page,) = read_prompts([box(-50, -50, -10, -10)], read_config(own()))
    with pytest.raises(PayloadError, match="must overlap the picture"):
        in_pixels(page.asks[0], SIZE)


def test_places_on_a_turned_picture_are_told_on_the_picture_as_it_is() -> None:
    # recorded: a click at 80.14, 45.42 percent of what the editor shows, turned clockwise by 90
    recorded = {
        "original_width": 360,
        "original_height": 360,
        "image_rotation": 90,
        "value": {"x": 45.46742209631729, "y": 19.8300283286119, "labels": ["Cell"]},
        "id": "nsAUXWV2rz",
        "from_name": "kp",
        "to_name": "image",
        "type": "keypoint",
    }
    (page,) = read_prompts([recorded], read_config(shared()))
    assert page.rotation == 90
    np.testing.assert_allclose(
        in_pixels(page.asks[0], (360, 360)).points_xy, [[163.18, 70.89]], atol=0.01
    )


def test_the_check_names_what_will_not_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = check_config(shared("Bitmask"))
    assert good.problems == []
    assert "answered as bitmask" in good.means[0]
    bad = own().replace('<Label value="Debris"/></BrushLabels>', "</BrushLabels>", 1)
    bad = bad.replace('name="mask" toName="image">', 'name="mask" toName="image" smart="true">')
    path = tmp_path / "config.xml"
    path.write_text(bad)
    assert main(["labelstudio", "config-check", str(path)]) == 1
    out = capsys.readouterr().out
    assert "sends nothing in Label Studio 1.23" in out
    assert 'label "Debris" of "kp" is none of "mask"' in out
    none = '<View><Image name="image" value="$image"/><BrushLabels name="b" toName="image"/></View>'
    assert "no smart tool" in check_config(none).problems[0]
    assert main(["labelstudio", "config-check", str(tmp_path / "no.xml")]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_tools_that_ask_nothing_are_advised_against() -> None:
    def advised(config: str) -> bool:
        return any('smart="false" on "mask"' in line for line in check_config(config).advice)

    assert advised(shared("Brush"))
    assert advised(own("BitmaskLabels"))
    assert not advised(shared("Polygon"))
    assert not advised(shared("Brush").replace('"mask"', '"mask" smart="false"'))
