"""Clicks that correct, on real nuclei: what was right stays right."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flask.testing import FlaskClient
from scipy import ndimage
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import (
    box,
    click,
    data_url,
    disk,
    iou,
    own,
    picture_of,
    request,
)

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.images import read_image
from sam_plugins.model.io.label_studio import mask_of, regions_of

BoolArray = npt.NDArray[np.bool_]
STEM = "03b9306f44e9b895"


@pytest.fixture(scope="module")
def nuclei(test_data: Path) -> tuple[str, npt.NDArray[Any]]:
    """The address of a picture of nuclei, and its ground truth."""
    folder = test_data / "dsb2018" / "val"
    picture = to_rgb(read_image(folder / "images" / f"{STEM}.png"))
    return data_url(picture), read_image(folder / "labels" / f"{STEM}.png")


def answered(client: FlaskClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the items of an answer."""
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    assert response.json is not None
    items: list[dict[str, Any]] = response.json["results"][0]["result"]
    return items


def one_mask(items: list[dict[str, Any]], size_hw: tuple[int, int]) -> BoolArray:
    """Return the mask of the one region of an answer."""
    (region,) = regions_of(items)
    return mask_of(region, size_hw)


def deepest(mask: BoolArray) -> tuple[int, int, float]:
    """Return the pixel of a mask that is farthest from its border, and how far."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y), float(depth.max())


def next_click(mask: BoolArray, truth: BoolArray) -> dict[str, Any] | None:
    """Return where somebody would correct a mask: in the middle of the larger mistake."""
    size_hw = (truth.shape[0], truth.shape[1])
    too_much, too_little = deepest(mask & ~truth), deepest(truth & ~mask)
    if max(too_much[2], too_little[2]) < 2:
        return None
    x, y, _ = too_much if too_much[2] > too_little[2] else too_little
    return click(x, y, size_hw=size_hw, is_positive=too_much[2] <= too_little[2])


def session(
    client: FlaskClient, url: str, truth: BoolArray, task: int, *, most: int = 6
) -> list[float]:
    """Click until a mask is right; return the IoU after each click."""
    size_hw = (truth.shape[0], truth.shape[1])
    x, y, _ = deepest(truth)
    clicks, found = [click(x, y, size_hw=size_hw)], []
    while len(clicks) <= most:
        mask = one_mask(answered(client, request(clicks, own(), url=url, task=task)), size_hw)
        found.append(iou(mask, truth))
        correction = next_click(mask, truth)
        if correction is None:
            break
        clicks.append(correction)
    return found


def test_corrections_of_nuclei_do_not_hurt(
    client: FlaskClient, nuclei: tuple[str, npt.NDArray[Any]]
) -> None:
    url, labels = nuclei
    sizes = np.bincount(labels.ravel())[1:]
    sessions = [
        session(client, url, labels == number + 1, int(number)) for number in np.argsort(-sizes)[:6]
    ]
    corrected = [one for one in sessions if len(one) > 2]
    assert corrected, "no nucleus needed a correction: the test shows nothing"
    falls = [max(0.0, a - b) for one in corrected for a, b in itertools.pairwise(one)]
    assert max(falls) < 0.03, sessions
    assert all(one[-1] >= one[0] for one in corrected), sessions


def test_a_click_that_is_taken_back_leaves_the_mask_before_it(
    client: FlaskClient, nuclei: tuple[str, npt.NDArray[Any]]
) -> None:
    url, labels = nuclei
    size_hw = (labels.shape[0], labels.shape[1])
    truth = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    x, y, _ = deepest(truth)
    first = click(x, y, size_hw=size_hw)
    plus = click(x + 3, y, size_hw=size_hw)
    minus = click(x, y + 5, size_hw=size_hw, is_positive=False)

    def mask(*clicks: dict[str, Any]) -> BoolArray:
        return one_mask(answered(client, request(list(clicks), own(), url=url)), size_hw)

    mask(first)
    before = mask(first, plus)
    after = mask(first, plus, minus)
    assert (before != after).any()
    np.testing.assert_array_equal(mask(first, plus), before)
    np.testing.assert_array_equal(mask(first, plus, minus), after)


def test_negative_points_come_one_after_the_other_on_an_accepted_region(
    client: FlaskClient,
) -> None:
    size_hw = (240, 320)
    disks = [disk(size_hw, centre, 38) for centre in ((100, 90), (170, 90), (240, 90))]
    url = data_url(picture_of(disks[0] | disks[1] | disks[2]))
    first = answered(client, request([box(58, 48, 280, 132)], own(), url=url))
    drafts = [{"id": 1, "user": "me@example.org", "result": first}]
    one = click(255, 90, is_positive=False)
    two = click(170, 90, is_positive=False)

    def corrected(*clicks: dict[str, Any]) -> BoolArray:
        items = answered(client, request(list(clicks), own(), url=url, drafts=drafts))
        assert [item["id"] for item in items] == [first[0]["id"]]
        return one_mask(items, size_hw)

    once = corrected(one)
    assert not once[90, 255]
    assert once[90, 170], "the second point has nothing to correct: the test shows nothing"
    twice = corrected(one, two)
    assert not twice[90, 255]
    assert not twice[90, 170]
    assert np.count_nonzero(twice & disks[1]) < np.count_nonzero(once & disks[1])
    assert iou(twice, disks[0]) > iou(once, disks[0])
    assert twice[90, 100]
    np.testing.assert_array_equal(corrected(one), once)  # the second one taken back


def test_a_box_takes_the_points_of_the_draft_that_a_new_backend_never_saw(
    make_service: MakeService,
) -> None:
    size_hw = (240, 320)
    left, right = disk(size_hw, (100, 90), 40), disk(size_hw, (170, 90), 38)
    url = data_url(picture_of(left | right))
    around = box(58, 48, 210, 132)
    minus = click(170, 90, is_positive=False)
    points = [click(95, 90), minus]

    def asked(points: list[dict[str, Any]], **settings: Any) -> BoolArray:
        service = make_service(**settings)
        client = create_app(service.settings, service=service).test_client()
        drafts = [{"id": 1, "user": "me@example.org", "result": points}]
        return one_mask(answered(client, request([around], own(), url=url, drafts=drafts)), size_hw)

    fused = asked(points)
    alone = asked([])
    assert iou(fused, left) > iou(alone, left)
    np.testing.assert_array_equal(asked(points, fuse_seconds=0), alone)
    elsewhere = [click(300, 200), {**minus, "value": {**minus["value"], "labels": ["Debris"]}}]
    np.testing.assert_array_equal(asked(elsewhere[:1]), alone)
    done = [*points, {**click(0, 0), "id": "d", "type": "brushlabels", "value": _brush(left)}]
    np.testing.assert_array_equal(asked(done), alone)  # the points were answered with this region


def _brush(mask: BoolArray) -> dict[str, Any]:
    """Return a mask as the value of a brush region."""
    from sam_plugins.model.io.brush_rle import encode_brush

    return {"format": "rle", "rle": encode_brush(mask), "brushlabels": ["Cell"]}
