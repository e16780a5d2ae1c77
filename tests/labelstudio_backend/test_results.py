"""Regions are read back by the reader that the label store uses, and are the mask again."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from tests.labelstudio_backend.payloads import disk, iou, own, shared

from sam_plugins.labelstudio_backend.label_config import ConfigError, read_config
from sam_plugins.labelstudio_backend.results import Drawing, finite_score, new_id, region_items
from sam_plugins.labelstudio_backend.target import choose_target
from sam_plugins.model.io.label_studio import mask_of, regions_of

SIZE = (120, 160)
MASK = disk(SIZE, (70, 60), 40) & ~disk(SIZE, (60, 60), 10)
LEAST = {"Brush": 1.0, "Bitmask": 1.0, "Polygon": 0.97, "Ellipse": 0.85, "Rectangle": 0.7}


@pytest.mark.parametrize("tag", LEAST)
@pytest.mark.parametrize("style", ["own", "shared"])
def test_every_kind_of_region_is_read_back(tag: str, style: str) -> None:
    text = own(f"{tag}Labels") if style == "own" else shared(tag)
    text = text.replace('<Rectangle name="rect" toName="image" smart="true"/>', "")
    config = read_config(text)
    target = choose_target(config, "image", prompt="kp", label="Debris", output=tag.lower())
    items = region_items(MASK, target, score=0.9)
    json.dumps(items, allow_nan=False)
    (region,) = regions_of(items)
    assert region.class_name == "Debris"
    assert iou(mask_of(region, SIZE), MASK) >= LEAST[tag]
    assert {item["id"] for item in items} == {items[0]["id"]}
    assert len(items) == (1 if style == "own" else 2)
    assert all((item["original_height"], item["original_width"]) == SIZE for item in items)


def test_a_bitmask_has_one_bit_a_pixel_and_is_much_smaller_than_a_brush() -> None:
    config = read_config(own("BitmaskLabels"))
    (item,) = region_items(MASK, choose_target(config, "image", label="Cell"), score=1)
    content = base64.b64decode(item["value"]["imageDataURL"].partition(",")[2])
    assert content[24] == 1  # bits of a sample, in the PNG's header
    brush = read_config(own("BrushLabels"))
    (other,) = region_items(MASK, choose_target(brush, "image", label="Cell"), score=1)
    assert len(item["value"]["imageDataURL"]) < len(json.dumps(other["value"]["rle"])) / 3


def test_parts_are_regions_below_the_first() -> None:
    mask = disk(SIZE, (30, 30), 20) | disk(SIZE, (120, 80), 25)
    config = read_config(own("PolygonLabels"))
    first, second = region_items(mask, choose_target(config, "image", label="Cell"), score=1)
    assert second["parentID"] == first["id"]
    assert first["id"] != second["id"]
    assert "parentID" not in first


def test_pages_and_ids_are_told() -> None:
    target = choose_target(read_config(own()), "image", label="Cell")
    (item,) = region_items(MASK, target, score=1, region_id="mine", drawing=Drawing(page=1))
    assert (item["id"], item["item_index"]) == ("mine", 1)
    assert region_items(np.zeros(SIZE, bool), target, score=1) == []


def test_no_two_of_many_ids_are_alike() -> None:
    ids = {new_id() for _ in range(20_000)}
    assert len(ids) == 20_000
    assert min(map(len, ids)) >= 10


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -3.0, 7.0])
def test_scores_are_finite(score: float) -> None:
    assert 0 <= finite_score(score) <= 1


def test_masks_go_before_boxes_and_labels_decide_among_masks() -> None:
    text = """<View><Image name="image" value="$image"/>
    <RectangleLabels name="r" toName="image"><Label value="Cell"/></RectangleLabels>
    <PolygonLabels name="p" toName="image"><Label value="Debris"/></PolygonLabels>
    <BrushLabels name="b" toName="image"><Label value="Zelle" alias="Cell"/>
      <Label value="Rest" predicted_values="dirt, dust"/></BrushLabels></View>"""
    config = read_config(text)
    chosen = choose_target(config, "image", prompt="r", label="Cell")
    assert (chosen.shape.name, chosen.label) == ("b", "Zelle")
    assert choose_target(config, "image", label="Debris").shape.name == "p"
    assert choose_target(config, "image", label="dust").label == "Rest"
    assert choose_target(config, "image", label="Cell", output="rectangle").shape.name == "r"


def test_a_config_without_a_place_for_regions_says_what_to_add() -> None:
    text = (
        '<View><Image name="image" value="$image"/><KeyPointLabels name="k" toName="image"/></View>'
    )
    with pytest.raises(ConfigError, match="add one, such as <BrushLabels"):
        choose_target(read_config(text), "image")
