"""Clicks and boxes, answered by the model that ships with the package."""

from __future__ import annotations

import io
import re
import threading
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import (
    box,
    click,
    data_url,
    disk,
    in_two,
    iou,
    own,
    picture_of,
    request,
    shared,
)

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.model.io.brush_rle import encode_brush
from sam_plugins.model.io.label_studio import mask_of, regions_of

SIZE = (240, 320)
DISK = disk(SIZE, (100, 90), 40)
PICTURE = data_url(picture_of(DISK))


def asked(client: FlaskClient, body: dict[str, Any]) -> dict[str, Any]:
    """Return the one result of an interactive request."""
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    assert response.json is not None
    (result,) = response.json["results"]
    assert isinstance(result, dict)
    assert isinstance(result["score"], float)
    assert result["model_version"]
    return result


def masks(result: dict[str, Any], size_hw: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Return the masks of a result."""
    return [mask_of(region, size_hw) for region in regions_of(result["result"])]


@pytest.mark.parametrize("config", [own(), own("BitmaskLabels"), own("PolygonLabels")])
def test_a_click_on_a_control_with_labels(client: FlaskClient, config: str) -> None:
    result = asked(client, request([click(100, 90)], config, url=PICTURE))
    (mask,) = masks(result)
    assert iou(mask, DISK) > 0.85
    assert result["result"][0]["from_name"] == "mask"
    assert regions_of(result["result"])[0].class_name == "Cell"


@pytest.mark.parametrize("item", [click(100, 90, label="Debris"), box(60, 50, 141, 131)])
def test_prompts_of_a_shared_label_list(client: FlaskClient, item: dict[str, Any]) -> None:
    result = asked(client, request(in_two(item), shared(), url=PICTURE))
    (mask,) = masks(result)
    assert iou(mask, DISK) > 0.85
    assert [one["from_name"] for one in result["result"]] == ["mask", "lab"]


def test_what_is_missing_is_made_up_for(client: FlaskClient) -> None:
    item = click(100, 90)
    for key in ("original_width", "original_height", "image_rotation", "is_positive", "origin"):
        del item[key]
    item["value"] = {"x": item["value"]["x"], "y": item["value"]["y"], "labels": []}
    item["from_name"] = "no such control"
    (mask,) = masks(asked(client, request([item], own(), url=PICTURE)))
    assert iou(mask, DISK) > 0.85


def test_several_boxes_are_several_regions(client: FlaskClient) -> None:
    both = DISK | disk(SIZE, (240, 160), 35)
    boxes = [box(60, 50, 141, 131), box(205, 125, 276, 196)]
    result = asked(client, request(boxes, own(), url=data_url(picture_of(both))))
    first, second = masks(result)
    assert iou(first, DISK) > 0.85
    assert iou(second, disk(SIZE, (240, 160), 35)) > 0.85


@pytest.mark.parametrize(
    ("useless", "reason"),
    [
        (box(10, 10, 10.2, 10.2), "half a pixel wide and high.*draw it larger"),
        (box(-50, -50, -10, -10), "must overlap the picture"),
        (
            {**box(0, 0, 1, 1), "type": "polygonlabels", "value": {"points": [[5, 5]]}},
            "cannot be drawn.*draw it again",
        ),
        ({**click(5, 5), "to_name": "other"}, "'second'.*must be the address of a picture"),
    ],
)
def test_a_prompt_that_means_nothing_is_told_and_spoils_no_other(
    client: FlaskClient, useless: dict[str, Any], reason: str
) -> None:
    config = own().replace("</View>", '<Image name="other" value="$second"/></View>')
    items = [useless, box(60, 50, 141, 131)]
    (mask,) = masks(asked(client, request(items, config, url=PICTURE)))
    assert iou(mask, DISK) > 0.85
    (told,) = (client.get("/status").json or {})["problems"]
    assert (told["kind"], told["task"]) == ("prompt", "1")
    assert re.search(reason, told["message"])
    assert 'sam_plugins_problems_total{kind="prompt"} 1.0' in client.get("/metrics").text


def test_a_turned_box_counts_by_its_corners(client: FlaskClient) -> None:
    turned = box(60, 131, 141, 212)  # turned up about its upper left corner
    turned["value"]["rotation"] = -90
    (mask,) = masks(asked(client, request([turned], own(), url=PICTURE)))
    assert iou(mask, DISK) > 0.85


def test_points_of_one_label_are_one_region_and_of_two_labels_two(client: FlaskClient) -> None:
    both = DISK | disk(SIZE, (240, 160), 35)
    url = data_url(picture_of(both))
    one = [click(90, 90), click(110, 95), click(240, 160, is_positive=False)]
    assert len(masks(asked(client, request(one, own(), url=url)))) == 1
    two = [click(90, 90), click(240, 160, label="Debris")]
    found = regions_of(asked(client, request(two, own(), url=url))["result"])
    assert [region.class_name for region in found] == ["Cell", "Debris"]


def test_a_box_after_points_takes_them_along_and_points_after_a_box_its_box(
    make_service: MakeService,
) -> None:
    both = DISK | disk(SIZE, (170, 90), 38)  # they touch
    url = data_url(picture_of(both))
    service = make_service()
    client = create_app(service.settings, service=service).test_client()
    around = box(58, 48, 210, 132)
    asked(client, request([click(170, 90, is_positive=False), click(95, 90)], own(), url=url))
    (fused,) = masks(asked(client, request([around], own(), url=url)))
    alone_service = make_service(fuse_seconds=0)
    alone = create_app(alone_service.settings, service=alone_service).test_client()
    (unfused,) = masks(asked(alone, request([around], own(), url=url)))
    assert iou(fused, DISK) > iou(unfused, DISK)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_point_goes_on_with_its_box_once_a_draft_was_saved(
    make_service: MakeService, is_restarted: bool
) -> None:
    """The editor's own name of the user comes with the draft, some seconds after the box."""
    both = DISK | disk(SIZE, (170, 90), 20)
    url = data_url(picture_of(both))
    around, point = box(58, 48, 210, 132), click(170, 90)
    draft = {"id": 1, "user": "me@example.org", "result": [around]}

    def client() -> FlaskClient:
        service = make_service()
        return create_app(service.settings, service=service).test_client()

    at_once = client()
    asked(at_once, request([around], own(), url=url))
    (wanted,) = masks(asked(at_once, request([point], own(), url=url)))
    later = client()
    asked(later, request([around], own(), url=url))
    if is_restarted:
        later = client()
    (found,) = masks(asked(later, request([point], own(), url=url, drafts=[draft])))
    assert iou(found, wanted) > 0.95
    assert iou(found, disk(SIZE, (170, 90), 20)) < 0.8, "a point alone means the small disk"
    other = {**around, "value": {**around["value"], "rectanglelabels": ["Debris"]}}
    for result in ([other], [around, {**around, "id": "second"}], [around, _mask_of(DISK)]):
        draft = {"id": 1, "user": "me@example.org", "result": result}
        (found,) = masks(asked(client(), request([point], own(), url=url, drafts=[draft])))
        assert iou(found, disk(SIZE, (170, 90), 20)) > 0.8, "that box is of something else"


def _mask_of(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask that somebody has drawn."""
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": ["Cell"]}
    size = {"original_width": SIZE[1], "original_height": SIZE[0]}
    places = {"from_name": "mask", "to_name": "image", "type": "brushlabels"}
    return {"id": "drawn", "value": value, **size, **places}


def test_an_accepted_box_is_no_longer_taken_along(client: FlaskClient) -> None:
    both = DISK | disk(SIZE, (170, 90), 20)
    url = data_url(picture_of(both))
    first = asked(client, request([box(58, 48, 210, 132)], own(), url=url))
    drafts = [{"id": 1, "result": first["result"]}]
    pending = asked(client, request([click(170, 90)], own(), url=url))
    accepted = asked(client, request([click(170, 90)], own(), url=url, drafts=drafts))
    assert masks(pending)[0].sum() != masks(accepted)[0].sum()
    assert iou(masks(accepted)[0], disk(SIZE, (170, 90), 20)) > 0.8


def test_negative_points_on_an_accepted_region_correct_it_in_place(client: FlaskClient) -> None:
    both = DISK | disk(SIZE, (170, 90), 38)
    url = data_url(picture_of(both))
    first = asked(client, request([box(58, 48, 210, 132)], own(), url=url))
    (before,) = masks(first)
    drafts = [{"id": 1, "user": "me@example.org", "result": first["result"]}]
    minus = [click(185, 90, is_positive=False)]
    second = asked(client, request(minus, own(), url=url, drafts=drafts))
    assert [item["id"] for item in second["result"]] == [first["result"][0]["id"]]
    (after,) = masks(second)
    assert before[90, 185]
    assert not after[90, 185]
    minus = [click(185, 90, is_positive=False, label="Debris")]
    nothing = asked(client, request(minus, own(), url=url))
    assert nothing["result"] == []  # nowhere accepted: a negative point alone asks for nothing


def test_pages_are_answered_each_on_its_own(client: FlaskClient) -> None:
    other = disk(SIZE, (200, 150), 30)
    urls = [PICTURE, data_url(picture_of(other))]
    config = own().replace('value="$image"', 'valueList="$image"')
    items = [click(100, 90, item_index=0), click(200, 150, item_index=1)]
    result = asked(client, request(items, config, url=urls))
    by_page = {item["item_index"]: item for item in result["result"]}
    for page, mask in ((0, DISK), (1, other)):
        (region,) = regions_of([by_page[page]])
        assert iou(mask_of(region, SIZE), mask) > 0.85


def test_a_photograph_that_lies_on_its_side_is_turned_upright(client: FlaskClient) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = np.rot90(picture_of(DISK), 1)  # shown turned clockwise: upright
    Image.fromarray(np.ascontiguousarray(lying)).save(file, "JPEG", quality=95, exif=exif)
    import base64

    url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    result = asked(client, request([click(100, 90)], own(), url=url))
    assert (result["result"][0]["original_height"], result["result"][0]["original_width"]) == SIZE
    assert iou(masks(result)[0], DISK) > 0.85


def test_points_outside_are_moved_to_the_border_and_no_error(client: FlaskClient) -> None:
    result = asked(client, request([click(100, 90), click(-50, 900)], own(), url=PICTURE))
    assert result["model_version"]


@pytest.mark.parametrize("phrase", ["all", "Cell"])
def test_a_text_finds_everything_or_more_like_what_was_accepted(
    client: FlaskClient, phrase: str
) -> None:
    both = DISK | disk(SIZE, (240, 160), 38)
    url = data_url(picture_of(both))
    first = asked(client, request([click(100, 90)], own(), url=url))
    config = own().replace("</View>", '<TextArea name="t" toName="image"/></View>')
    text = {
        "value": {"text": [phrase]},
        "id": "t1",
        "from_name": "t",
        "to_name": "image",
        "type": "textarea",
    }
    accepted = [{"id": 3, "result": first["result"]}]
    result = asked(client, request([text], config, url=url, annotations=accepted))
    found = masks(result)
    assert max(iou(mask, disk(SIZE, (240, 160), 38)) for mask in found) > 0.8
    assert max(iou(mask, DISK) for mask in found) < 0.5  # it is there already


def test_words_without_a_clip_say_what_would_help(client: FlaskClient, service: Service) -> None:
    config = own().replace("</View>", '<TextArea name="t" toName="image"/></View>')
    text = {"value": {"text": ["a dog"]}, "id": "t", "from_name": "t", "type": "textarea"}
    assert asked(client, request([text], config, url=PICTURE))["result"] == []
    assert "SAM_PLUGINS_LS_TEXT_MODEL" in service.problems.documents()[0]["message"]


def test_two_requests_for_one_picture_encode_it_once(client: FlaskClient, service: Service) -> None:
    body = request([click(100, 90)], own(), url=PICTURE)
    threads = [
        threading.Thread(
            target=client.application.test_client().post, args=("/predict",), kwargs={"json": body}
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.metrics.encodes._value.get() == 1


@pytest.mark.slow
def test_eight_annotators_get_the_masks_of_their_own_pictures(service: Service) -> None:
    app = create_app(service.settings, service=service)
    shapes = [disk(SIZE, (70 + 25 * n, 60 + 15 * n), 22 + 3 * n) for n in range(8)]
    urls = [data_url(picture_of(mask, seed)) for seed, mask in enumerate(shapes)]
    wrong: list[str] = []

    def annotate(number: int) -> None:
        client = app.test_client()
        for _ in range(5):
            item = click(70 + 25 * number, 60 + 15 * number)
            body = request([item], own(), url=urls[number], task=number + 1)
            (mask,) = masks(asked(client, body))
            best = int(np.argmax([iou(mask, shape) for shape in shapes]))
            if best != number or iou(mask, shapes[number]) < 0.8:
                wrong.append(f"{number} got {best}")

    threads = [threading.Thread(target=annotate, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
