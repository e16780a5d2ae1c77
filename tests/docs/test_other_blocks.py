"""Blocks of other languages are read by what reads them: configs, prompts, labelling interfaces."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.docs.pages import Block, blocks, page_paths

from sam_plugins import Prompts
from sam_plugins.labelstudio_backend.config_check import check_config
from sam_plugins.model.engine.run_config import RunConfig

PROMPT = ("points_xy", "point_labels", "box_xyxy")
READ = {"python", "console", "sh", "bash", "yaml", "json", "xml"}
SHOWN = {"text", "diff", "nginx"}
"""What programs answer, what changes in somebody's own program, settings of another server."""


def test_every_block_is_of_a_language_that_a_test_reads() -> None:
    text = "".join(path.read_text("utf-8") for path in page_paths())
    languages = {*re.findall(r"^ *```(?!\{)([^\s`]+)", text, re.MULTILINE)}
    assert languages == READ | SHOWN


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_a_config_of_a_run(block: Block) -> None:
    config = RunConfig.from_yaml(block.text)
    assert f"name: {config.name}" in block.text


@pytest.mark.parametrize("block", blocks("xml"), ids=str)
def test_a_labelling_interface(block: Block) -> None:
    report = check_config(block.text)
    assert report.means
    assert not report.problems


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_prompts_of_an_engine(block: Block) -> None:
    document = json.loads(block.text)
    assert {*document} <= {"objects", "accept", "reject"}
    for one in document["objects"]:
        assert {*one} <= {*PROMPT, "class_name", "seconds", "corrects"}
        assert Prompts.for_object(*(one.get(key) for key in PROMPT)) is not None


def test_the_front_door_shows_each_way_in_five_lines() -> None:
    shown = [one for one in blocks("python", "console") if one.page == "README.md"]
    long = {str(one) for one in shown if len([*filter(str.strip, one.text.splitlines())]) > 5}
    assert len(shown) == 6
    assert not long


@pytest.mark.parametrize("path", page_paths(), ids=lambda path: "/".join(path.parts[-2:]))
def test_files_that_a_page_links_to_exist(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    local = {link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)} - {""}
    assert not {link for link in local if not (path.parent / link).exists()}
