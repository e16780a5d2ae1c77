"""Configs as teams write them: explained, set up, and answered in the right control."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from tests.labelstudio_backend.configs import CASES, Case
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import (
    click,
    data_url,
    disk,
    in_two,
    iou,
    picture_of,
    request,
)

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.config_check import check_config
from sam_plugins.labelstudio_backend.label_config import ConfigError, read_config
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.target import choose_target
from sam_plugins.model.io.label_studio import mask_of, regions_of

SIZE = (60, 80)
DISK = disk(SIZE, (40, 30), 15)
PICTURE = data_url(picture_of(DISK))
EMPTY = data_url(picture_of(DISK & False))
DATA = {
    "image": PICTURE,
    "other": PICTURE,
    "images": [EMPTY, PICTURE],
    "scans": [{"url": EMPTY}, {"url": PICTURE}],
    "base64": PICTURE.partition(",")[2],
    "labels": [{"value": "Cell"}, {"value": "Debris"}],
    "text": "Ada",
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_click_is_answered_where_the_config_says(
    client: FlaskClient, service: Service, case: Case
) -> None:
    report = check_config(case.xml)
    assert report.problems == []
    assert any("a click of" in line for line in report.means)
    assert len(set(report.advice)) == len(report.advice)
    answer = client.post("/setup", json={"project": "1.1", "schema": case.xml})
    assert answer.status_code == 200
    asked = click(
        40, 30, size_hw=SIZE, label=case.label, from_name=case.point, to_name=case.to_name,
        **case.more,
    )  # fmt: skip
    control = read_config(case.xml).for_data(DATA).control(case.point)
    assert control is not None
    body = request([asked] if control.has_labels else in_two(asked), case.xml, url=PICTURE)
    body["tasks"][0]["data"] = DATA
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    (found,) = response.json["results"]  # type: ignore[index]
    items = found["result"]
    assert tuple(f"{one['type']} {one['from_name']}" for one in items) == case.answer
    assert {one["to_name"] for one in items} == {case.to_name}
    page = case.more.get("item_index")
    (region,) = regions_of(items, page)
    assert region.class_name == case.said
    assert iou(mask_of(region, SIZE), DISK) > 0.85
    assert service.problems.documents() == []


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_opening_a_task_finds_the_objects_of_every_picture(
    make_service: MakeService, case: Case
) -> None:
    service = make_service(open_seconds=90)
    client = create_app(service.settings, service=service).test_client()
    body = request(None, case.xml, url=PICTURE)
    body["tasks"][0]["data"] = DATA
    (found,) = client.post("/predict", json=body).json["results"]  # type: ignore[index]
    pictures = {one.name for one in read_config(case.xml).for_data(DATA).images}
    assert {one["to_name"] for one in found["result"]} <= pictures
    assert case.to_name in {one["to_name"] for one in found["result"]}
    assert service.problems.documents() == []


def test_a_repeater_without_entries_says_what_is_missing(
    client: FlaskClient, service: Service
) -> None:
    case = CASES["a repeater"]
    body = request([click(1, 1, size_hw=SIZE)], case.xml, url=PICTURE)
    body["tasks"][0]["data"] = {"scans": []}
    (found,) = client.post("/predict", json=body).json["results"]  # type: ignore[index]
    assert found["result"] == []
    (problem,) = service.problems.documents()
    assert "data['scans'], which the labelling config repeats, must be a list" in problem["message"]
    with pytest.raises(ConfigError, match="the task shows no picture"):
        read_config(case.xml).for_data({})


def test_what_is_written_about_a_region_is_no_prompt() -> None:
    config = read_config(CASES["shown only where something is chosen"].xml)
    assert not config.takes_words("note")
    (line,) = [one for one in check_config(_xml("shown")).means if "note" in one]
    assert line == 'a text in "note" is a comment: nothing is asked with it'


def test_the_check_says_where_each_label_goes() -> None:
    xml = _xml("a mask tag").replace(
        '<Label value="Cell"/></KeyPointLabels>',
        '<Label value="Cell"/><Label value="Nucleus"/></KeyPointLabels>',
    )
    means = check_config(xml).means
    assert any('"mask" (BrushLabels), labelled Cell' in line for line in means)
    assert any('"nuclei" (BrushLabels), labelled Nucleus' in line for line in means)


_UNLIKE = """<View><Image name="image" value="$image"/>
<Labels name="lab" toName="image"><Label value="Cell"/><Label value="Debris"/></Labels>
<KeyPoint name="kp" toName="image"/>
<PolygonLabels name="poly" toName="image"><Label value="Nucleus"/><Label value="Other"/>
</PolygonLabels></View>"""


@pytest.mark.parametrize("labels", ['<Label value="Nucleus"/><Label value="Other"/>', ""])
def test_no_region_gets_a_label_that_its_control_lacks(
    client: FlaskClient, service: Service, labels: str
) -> None:
    one = '<Label value="Nucleus"/>'
    xml = _UNLIKE.replace(one + '<Label value="Other"/>', labels or one)
    problems = check_config(xml).problems
    assert len(problems) == 2
    assert all("its regions are answered without a label" in problem for problem in problems)
    assert 'label "Debris" of "lab" is none of "poly", which has Nucleus' in problems[1]
    body = request(in_two(click(40, 30, size_hw=SIZE, label="Debris")), xml, url=PICTURE)
    for _ in range(2):
        (found,) = client.post("/predict", json=body).json["results"]  # type: ignore[index]
        assert [item["value"]["polygonlabels"] for item in found["result"]] == [[]]
    (told,) = service.problems.documents()
    assert (told["kind"], told["message"]) == ("config", problems[1])
    body["label_config"] = xml.replace('<Label value="Nucleus"', '<Label value="N" alias="Debris"')
    (found,) = client.post("/predict", json=body).json["results"]  # type: ignore[index]
    assert found["result"][0]["value"]["polygonlabels"] == ["N"]
    assert service.problems.documents() == []


def test_one_label_to_ask_with_is_the_one_label_to_answer() -> None:
    xml = _xml("a value within").replace(
        '<Label value="Cell"/></KeyPoint', '<Label value="X"/></KeyPoint'
    )
    target = choose_target(read_config(xml), "image", prompt="kp", label="X")
    assert target.label == "Cell"
    (told,) = check_config(xml).problems
    assert 'label "X" of "kp" is none of "mask", which has Cell: its regions are called' in told


def test_the_check_finds_tags_that_are_for_nothing_or_cannot_be_told_apart() -> None:
    lost = _UNLIKE.replace('"kp" toName="image"', '"kp" toName="img"')
    assert (
        '"kp" (KeyPoint) is for \'img\', and no tag has that name: write toName="image"'
        in check_config(lost).problems
    )
    other = _UNLIKE.replace(
        "</View>", '<Text name="t" value="$t"/><Labels name="n" toName="t"/></View>'
    )
    assert check_config(other).problems == check_config(_UNLIKE).problems
    doubled = _UNLIKE.replace('name="kp"', 'name="poly"')
    assert "2 tags have the name 'poly'" in check_config(doubled).problems[0]


def _xml(start: str) -> str:
    """The config whose name begins so."""
    (found,) = [case.xml for name, case in CASES.items() if name.startswith(start)]
    return found
