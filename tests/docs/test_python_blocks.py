"""The blocks of Python on the pages run, as a reader would run them: one page, one session."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
from tests.docs.pages import Block, blocks
from tests.docs.world import TAKEN_FOR_GRANTED, make_world, small_model

import sam_plugins
from sam_plugins.model.inference import loading, predict
from sam_plugins.model.large import whole
from sam_plugins.model.weights.registry import ModelEntry

TRAINING = {
    "docs/how-to/data-engine.md",
    "docs/how-to/pretrain-and-distill.md",
    "docs/how-to/text-prompts.md",
    "docs/how-to/train.md",
}
"""Pages whose blocks train: a few steps, of a small network in the shipped model's place."""

RUN: dict[str, list[Block]] = {}
"""The blocks that run, by page."""
for one in blocks("python"):
    if one.not_run is None:
        RUN.setdefault(one.page, []).append(one)

SHORTER = {
    r"\bsteps=\d+": "steps=2",
    r"FineTuningOptions\(steps=2\)": "FineTuningOptions(steps=2, rounds=1)",
    '"tcp://node7:8786"': '"none"',
}
"""What is changed before a block runs: patterns, and what stands there then."""


@pytest.fixture(scope="module")
def shipped() -> Any:
    return loading.load_model("default", device="cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def loaded_once(shipped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the shipped model once for all pages."""
    load = loading.load_model

    def load_or_take(name: Any = "default", **options: Any) -> Any:
        return shipped if name == "default" and not options else load(name, **options)

    for module in (sam_plugins, loading, predict, whole):
        monkeypatch.setattr(module, "load_model", load_or_take)


@pytest.fixture
def small_default(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let "default" be a small network."""
    real = ModelEntry.path.fget
    assert real is not None
    path = property(lambda self: tiny if self.is_shipped else real(self))
    monkeypatch.setattr(ModelEntry, "path", path)


def compiled(block: Block) -> CodeType:
    """Compile a block so that errors name the line of the page."""
    text = block.text
    for pattern, shorter in SHORTER.items():
        text = re.sub(pattern, shorter, text)
    return compile("\n" * (block.line - 1) + text, block.page, "exec", dont_inherit=True)


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue("small_default" if page in TRAINING else "loaded_once")
    monkeypatch.chdir(tmp_path)
    make_world("".join(block.text for block in RUN[page]))
    names = {name: make() for name, make in TAKEN_FOR_GRANTED.get(page, {}).items()}
    for block in RUN[page]:
        exec(compiled(block), names)


def unknown_names(text: str) -> list[str]:
    """Return what a text takes from modules that have no such name, and keywords nobody takes."""
    tree = ast.parse(text)
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {one.name: importlib.import_module(one.name) for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            known |= {one.name: getattr(module, one.name, MISSING) for one in node.names}
    found = [f"no {name}" for name, value in known.items() if value is MISSING]
    for node in ast.walk(tree):
        value = _value(node, known)
        if value is MISSING:
            found.append(f"no {ast.unparse(node)}")
        if isinstance(node, ast.Call) and callable(_value(node.func, known)):
            taken = inspect.signature(_value(node.func, known)).parameters
            wrong = [one.arg for one in node.keywords if one.arg not in {None, *taken}]
            found += [f"{ast.unparse(node.func)} takes no {name}" for name in wrong]
    return found


MISSING = object()


def _value(node: ast.AST, known: dict[str, Any]) -> Any:
    """Return what a name or an attribute of a module stands for, or None where that is unknown."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        home = _value(node.value, known)
        return getattr(home, node.attr, MISSING) if isinstance(home, ModuleType) else None
    return None


@pytest.mark.parametrize("block", [b for b in blocks("python") if b.not_run], ids=str)
def test_a_block_that_does_not_run_here_says_why_and_names_what_exists(block: Block) -> None:
    assert block.not_run
    assert not unknown_names(block.text)


def test_wrong_names_are_noticed() -> None:
    text = "import sam_plugins\nfrom pathlib import Pat\n"
    text += "sam_plugins.load_model('a', dtyp='auto')\nsam_plugins.segmemt(1)\n"
    assert sorted(unknown_names(text)) == [
        "no Pat",
        "no sam_plugins.segmemt",
        "sam_plugins.load_model takes no dtyp",
    ]
