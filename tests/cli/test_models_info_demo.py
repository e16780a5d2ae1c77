"""``models``, ``info`` and ``demo``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from sam_plugins import __version__
from sam_plugins.cli import info, main
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.registry import find_entry, model_entries


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["NAME", "WHERE", "SIZE", "LICENCE"]
    assert len(lines) == 1 + len(model_entries())
    assert any(re.match(r"sam_vit_b +online +375\.0 MB +Apache-2\.0", line) for line in lines)


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in entries] == [e.name for e in model_entries()]


def test_no_versions_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "versions"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(
        r"sam-plugins: no model in .* yet; `sam-plugins train` makes one\n", said.err
    )


def test_a_model_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "sam_vit_b"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"where: +online", out)
    assert re.search(r"licence: +Apache-2\.0", out)


def test_the_summary_of_a_model_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "default"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") <= 24
    for pattern in (
        r"where: +shipped", r"licence: +Apache-2\.0", r"parameters: +\d+\.\d million",
        r"trained on: +\d+ sets: \d+ pictures, \d+ objects", r"mean over \d+ sets: box_iou 0\.",
        r"told with --full, or with --json\.$",
    ):  # fmt: skip
        assert re.search(pattern, out), out
    assert "sha256" not in out
    assert main(["models", "show", "default", "--full"]) == 0
    full = capsys.readouterr().out
    assert "sha256" in full
    assert full.count("\n") > 100


@pytest.mark.parametrize("command", [["models", "show", "sam_vit_bb"], ["info"]])
def test_errors_as_json(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise KeyError("nobody thought of it")

    monkeypatch.setattr(info, "collect", fail)
    assert main([*command, "--json"]) == 1
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert err == f"sam-plugins: error: {error}\n"
    assert re.match("no model is called|internal error: KeyError: 'nobody thought of it'", error)


def test_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    for action in (["show"], ["download"]):
        assert main(["models", *action, "sam_vit_bb"]) == 1
        err = capsys.readouterr().err
        assert re.match(r"sam-plugins: error: no model is called 'sam_vit_bb': did you mean", err)
        assert err.count("\n") == 1


def test_offline(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_PLUGINS_OFFLINE", "1")
    assert main(["models", "download", "sam_vit_b"]) == 1
    err = capsys.readouterr().err
    assert find_entry("sam_vit_b").file_name in err


def test_downloading_prints_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam_plugins.model.weights import download

    asked: list[Any] = []

    def fetch(entry: Any) -> Path:
        asked.append(entry.name)
        return tmp_path / entry.file_name

    monkeypatch.setattr(download, "fetch", fetch)
    command = ["models", "download", "vit_b", "default"]
    assert main(command) == 0
    assert asked == ["sam_vit_b"]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == str(tmp_path / "sam_vit_b_01ec64.pth")
    assert len(out) == 2


def test_sets_are_counted_without_what_a_parent_learned_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    passport = load_checkpoint("default").passport
    assert passport is not None
    sets = [source for source in passport.training_data if source.pictures]
    assert main(["models", "show", "default"]) == 0
    assert re.search(rf"trained on: +{len(sets)} sets: ", capsys.readouterr().out)
    assert len(sets) < len(passport.training_data)


def test_files_that_are_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.pth").write_text("no weights")
    assert main(["models", "show", str(tmp_path / "a.pth")]) == 1
    assert re.match(r"sam-plugins: error: .*a\.pth", capsys.readouterr().err)


def test_conversion_needs_a_safetensors_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["models", "convert", "a.pth", "-o", "b.pth"])
    assert left.value.code == 2
    assert "--output must end in .safetensors, got b.pth" in capsys.readouterr().err


def test_conversion_refuses_what_half_precision_cannot_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_checkpoint("default")
    state = {name: tensor.clone() for name, tensor in loaded.state_dict.items()}
    name = next(name for name, tensor in state.items() if tensor.ndim == 4)
    state[name][0, 0, 0, 0] = 1e5
    assert loaded.passport is not None
    source = save_model_file(
        tmp_path / "a.safetensors", state, loaded.passport, dtype=torch.float32
    )
    command = ["models", "convert", str(source), "-o", str(tmp_path / "b.safetensors")]
    assert main([*command, "--half"]) == 1
    err = capsys.readouterr().err
    assert re.match(r"sam-plugins: error: cannot convert .*a\.safetensors: .*largest 100000", err)
    assert not (tmp_path / "b.safetensors").exists()
    assert main(command) == 0


def test_info(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"sam plugins: +{re.escape(__version__)}", out)
    assert re.search(r"devices: +cpu \(\d+ cores, \d+ threads\)", out)
    for name, folder in (("home", ""), ("models", "models"), ("store", "store")):
        where = re.escape(str(tmp_path / "sam-plugins-home" / folder))
        assert re.search(rf"^{name}: +{where}$", out, re.MULTILINE)
    assert re.search(r"cache: +0 B", out)
    assert re.search(
        r"backends: +torch \(installed\), openvino \((not installed, extra fast|installed)\)", out
    )


def test_info_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["sam_plugins"] == __version__
    assert "torch" in values["packages"]
    assert values["cache_bytes"] == 0


def test_packages_that_are_not_installed_are_left_out() -> None:
    assert info._version("no-such-package-of-ours") is None


def test_the_demo(
    core: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    assert main(["demo"]) == 0  # again, over its own results
    out = capsys.readouterr().out
    assert re.search(r"\d+ objects in \d+\.\d s with fake-0123456789ab", out)
    assert "demo-output/ihc_colon_overlay.png" in out.replace("\\", "/")
    labels = tifffile.imread(tmp_path / "demo-output" / "ihc_colon_labels.tif")
    assert labels.shape == core.seen[0].shape[:2]


def test_the_demo_replaces_nothing_that_somebody_changed(
    core: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["demo", "-o", str(tmp_path)]
    assert main(command) == 0
    labels = tmp_path / "ihc_colon_labels.tif"
    tifffile.imwrite(labels, np.full((9, 9), 5, np.uint16))
    edited = labels.read_bytes()
    assert main(command) == 1
    message = r"error: .*ihc_colon_labels\.tif exists and was changed .*; pass --overwrite"
    assert re.search(message, capsys.readouterr().err)
    assert labels.read_bytes() == edited
    assert main([*command, "--overwrite"]) == 0
    assert tifffile.imread(labels).shape == core.seen[0].shape[:2]


def test_a_demo_that_fails(
    core: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(core, "automatic", fail)
    assert main(["demo", "-o", str(tmp_path)]) == 1
    assert "not enough memory for" in capsys.readouterr().err
