"""The model store: versions appear whole, promotion needs a proof, rollback is one step."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sam_plugins.errors import PromotionError, StoreError
from sam_plugins.model.weights.comparison import Comparison
from sam_plugins.model.weights.paths import store_directory
from sam_plugins.model.weights.store import ModelStore, is_reference

BETTER = Comparison("default-0123", "mSA", 0.62, 0.55, 0.03, 0.11, 12)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "trained.safetensors"
    path.write_bytes(b"weights")
    return path


def test_versions_are_counted_and_keep_what_is_known_of_them(
    store: ModelStore, weights: Path
) -> None:
    first = store.add("cells", weights, model_id="cells-a", comparison=BETTER, note="round 1")
    second = store.add("cells", weights, model_id="cells-b")
    assert (str(first), str(second)) == ("cells@1", "cells@2")
    assert first.path.read_bytes() == b"weights"
    assert (first.comparison, first.note, first.model_id) == (BETTER, "round 1", "cells-a")
    assert store.versions("cells") == [first, second]
    assert store.names() == ["cells"]
    assert store.find("cells@1") == first
    assert store.versions("nothing") == []


def test_a_name_stands_for_the_version_in_use(store: ModelStore, weights: Path) -> None:
    store.add("cells", weights, model_id="cells-a", comparison=BETTER)
    with pytest.raises(StoreError, match=r"no version of cells is in use; promote one, or name it"):
        store.find("cells")
    assert store.promote("cells").is_in_use
    store.add("cells", weights, model_id="cells-b", comparison=replace(BETTER, parent="cells-a"))
    assert store.find("cells").number == 1
    assert store.promote("cells").number == 2
    assert [one.is_in_use for one in store.versions("cells")] == [False, True]
    assert store.rollback("cells").number == 1
    assert store.find("cells").number == 1
    with pytest.raises(StoreError, match=r"no version of cells was in use before; .*cells@2"):
        store.rollback("cells")


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        (None, r"cells@2 was never measured on held-out pictures"),
        (BETTER, r"measured against default-0123, but cells@1 \(cells-a\) is in use"),
        (
            replace(BETTER, parent="cells-a", low=-0.01),
            r"mSA 0\.620 against 0\.550 of cells-a on 12 held-out .*-0\.010 to \+0\.110",
        ),
        (
            replace(BETTER, parent="cells-a", low=None, high=None, pictures=1),
            r"of cells-a on 1 held-out pictures \(fewer than the 5 that tell a difference\)",
        ),
        (replace(BETTER, parent="cells-a", pictures=4), "fewer than the 5"),
    ],
)
def test_what_is_not_shown_to_be_better_is_promoted_by_force_only(
    store: ModelStore, weights: Path, comparison: Comparison | None, message: str
) -> None:
    store.add("cells", weights, model_id="cells-a", comparison=BETTER)
    store.promote("cells@1")
    store.add("cells", weights, model_id="cells-b", comparison=comparison)
    with pytest.raises(PromotionError, match=message):
        store.promote("cells")
    assert store.find("cells").number == 1
    assert store.promote("cells", force=True).number == 2


def test_promoting_what_is_in_use_changes_nothing(store: ModelStore, weights: Path) -> None:
    store.add("cells", weights, model_id="cells-a", comparison=BETTER)
    store.promote("cells", force=True)
    store.promote("cells", force=True)
    with pytest.raises(StoreError, match="was in use before"):
        store.rollback("cells")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("cell", r"has no model 'cell'; did you mean cells\?"),
        ("cells@9", r"no version 9 of cells, only cells@1"),
        ("Cells", r"called NAME or NAME@NUMBER, got 'Cells'"),
        ("../cells@1", r"called NAME or NAME@NUMBER"),
    ],
)
def test_what_is_not_there_is_named(
    store: ModelStore, weights: Path, reference: str, message: str
) -> None:
    store.add("cells", weights, model_id="cells-a")
    with pytest.raises(StoreError, match=message):
        store.find(reference)


@pytest.mark.parametrize(
    "name", ["", "Cells", "../up", "a b", "x" * 65, ".hidden", "cells.pt", "a."]
)
def test_names_that_could_be_paths_are_refused(store: ModelStore, weights: Path, name: str) -> None:
    with pytest.raises(StoreError, match="name of a model must be 1 to 64"):
        store.add(name, weights, model_id="x")


@pytest.mark.parametrize("name", ["default", "sam-vit-b"])
def test_names_of_published_models_are_taken(store: ModelStore, weights: Path, name: str) -> None:
    with pytest.raises(StoreError, match="is the name of a published model"):
        store.add(name, weights, model_id="x")


@pytest.mark.parametrize("name", ["con", "nul.x", "com1"])
def test_names_that_windows_keeps_are_refused(store: ModelStore, name: str) -> None:
    with pytest.raises(StoreError, match="no name for a folder on Windows"):
        store.require_writable(name)


@pytest.mark.parametrize("name", ["cells", "../outside"])
def test_promoting_an_unknown_model_touches_nothing(store: ModelStore, name: str) -> None:
    foreign = store.directory.parent / "outside" / ".new-mine"
    foreign.mkdir(parents=True)
    for act in (store.promote, store.rollback):
        with pytest.raises(StoreError, match=r"has no model 'cells'|called NAME or NAME@NUMBER"):
            act(name)
    assert [path.name for path in foreign.parent.iterdir()] == [".new-mine"]
    assert not store.directory.exists()
    assert store.versions(name) == []


def test_a_place_that_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot write to"):
        ModelStore(tmp_path / "file").require_writable("cells")


def test_rollback_takes_no_version(store: ModelStore, weights: Path) -> None:
    store.add("cells", weights, model_id="cells-1")
    with pytest.raises(StoreError, match=r"needs the name of a model alone, got 'cells@1'"):
        store.rollback("cells@1")
    assert [one.name for one in store.directory.iterdir()] == ["cells"]


def test_rollback_passes_over_what_was_removed(store: ModelStore, weights: Path) -> None:
    for number in range(1, 4):
        store.add("cells", weights, model_id=f"cells-{number}")
        store.promote("cells", force=True)
    shutil.rmtree(store.find("cells@2").path.parent)
    assert store.rollback("cells").number == 1


@pytest.mark.parametrize("by_hand", [False, True])
def test_rollback_does_not_lead_to_the_version_in_use(
    store: ModelStore, weights: Path, by_hand: bool
) -> None:
    for number in range(1, 4):
        store.add("cells", weights, model_id=f"cells-{number}")
    for reference in ("cells@3", "cells@1", "cells@2", "cells@1"):
        store.promote(reference, force=True)
    if by_hand:
        shutil.rmtree(store.find("cells@2").path.parent)
    else:
        store.delete("cells@2")
    assert store.rollback("cells").number == 3


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_document_is_named(store: ModelStore, weights: Path, content: str) -> None:
    version = store.add("cells", weights, model_id="cells-a")
    (version.path.parent / "version.json").write_text(content)
    with pytest.raises(StoreError, match=r"version\.json is damaged"):
        store.find("cells@1")


def test_a_copy_that_fails_leaves_no_version(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write to .*cells: No such file"):
        store.add("cells", tmp_path / "missing.safetensors", model_id="x")
    assert store.versions("cells") == []
    assert [path.name for path in (store.directory / "cells").iterdir()] in ([], [".lock"])


def test_what_a_crash_left_is_swept_and_never_a_version(store: ModelStore, weights: Path) -> None:
    leftover = store.directory / "cells" / ".new-crashed"
    leftover.mkdir(parents=True)
    assert store.versions("cells") == []
    assert store.add("cells", weights, model_id="x").number == 1
    assert not leftover.exists()


def _add_some(directory: str, weights: str) -> None:
    for _ in range(5):
        ModelStore(directory).add("cells", weights, model_id="x")


def test_several_processes_add_versions_at_once(store: ModelStore, weights: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (str(store.directory), str(weights))
    processes = [context.Process(target=_add_some, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [one.number for one in store.versions("cells")] == list(range(1, 16))


def test_numbers_are_not_given_twice_after_the_last_one_was_removed_in_between(
    store: ModelStore, weights: Path
) -> None:
    store.add("cells", weights, model_id="x")
    second = store.add("cells", weights, model_id="y")
    shutil.rmtree(store.versions("cells")[0].path.parent)
    assert store.add("cells", weights, model_id="z").number == second.number + 1


def test_a_deleted_version_is_gone_and_its_number_stays_free(
    store: ModelStore, weights: Path
) -> None:
    for name in ("a", "b", "c"):
        store.add("cells", weights, model_id=name)
    assert store.delete("cells@3").model_id == "c"
    assert [one.number for one in store.versions("cells")] == [1, 2]
    store.delete("cells@2")
    assert store.add("cells", weights, model_id="d").number == 4
    assert sorted(path.name for path in (store.directory / "cells").glob("[!.]*")) == [
        "1", "4", "last-number.json",
    ]  # fmt: skip
    for reference, message in (
        ("cells@3", "there is no version 3 of cells, only cells@1, cells@4"),
        ("cells", "say which version of cells to delete: cells@1, cells@4"),
        ("other@1", "has no model 'other'"),
        ("../x@1", "a stored model is called NAME or NAME@NUMBER"),
        ("cells@../1", "a stored model is called NAME or NAME@NUMBER"),
    ):
        with pytest.raises(StoreError, match=message):
            store.delete(reference, force=True)
    assert len(store.versions("cells")) == 2


def test_the_version_in_use_is_deleted_by_force_only(store: ModelStore, weights: Path) -> None:
    for name in ("a", "b"):
        store.add("cells", weights, model_id=name)
        store.promote("cells", force=True)
    with pytest.raises(StoreError, match=r"cells@2 is in use; promote or roll back"):
        store.delete("cells@2")
    assert store.find("cells").number == 2
    assert store.delete("cells@2", force=True).is_in_use
    assert store.find("cells").number == 1
    store.delete("cells@1", force=True)
    assert store.versions("cells") == []
    assert store.names() == []
    assert store.add("cells", weights, model_id="c").number == 3
    with pytest.raises(StoreError, match="no version of cells is in use"):
        store.find("cells")


def test_rollback_does_not_lead_to_a_deleted_version(store: ModelStore, weights: Path) -> None:
    for name in ("a", "b", "c"):
        store.add("cells", weights, model_id=name)
        store.promote("cells", force=True)
    store.delete("cells@2")
    assert store.find("cells").number == 3
    assert store.rollback("cells").number == 1


def test_a_deletion_that_is_cut_short_leaves_no_version(
    store: ModelStore, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("cells", weights, model_id="a")
    second = store.add("cells", weights, model_id="b")

    def stop(path: Path, **_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            store.delete(str(second))
    assert [one.number for one in store.versions("cells")] == [1]
    assert store.add("cells", weights, model_id="c").number == 3
    assert not list((store.directory / "cells").glob(".new-*"))


def test_a_damaged_memory_of_deletions_is_named(store: ModelStore, weights: Path) -> None:
    store.add("cells", weights, model_id="a")
    (store.directory / "cells" / "last-number.json").write_text('{"number": "x"}')
    with pytest.raises(StoreError, match=r"last-number\.json is damaged"):
        store.add("cells", weights, model_id="b")


def test_the_history_is_readable_by_people(store: ModelStore, weights: Path) -> None:
    store.add("cells", weights, model_id="x")
    store.promote("cells", force=True)
    document = json.loads((store.directory / "cells" / "in-use.json").read_text())
    assert document == {"in_use": 1, "history": [1]}


@pytest.mark.parametrize(
    ("text", "expected"), [("a@1", True), ("a", False), ("a@b", False), ("x/y@1", False)]
)
def test_references(text: str, expected: bool) -> None:
    assert is_reference(text) is expected


def test_the_folder_is_chosen_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM_PLUGINS_HOME", str(tmp_path))
    monkeypatch.delenv("SAM_PLUGINS_STORE", raising=False)
    assert store_directory() == tmp_path / "store"
    monkeypatch.setenv("SAM_PLUGINS_STORE", str(tmp_path / "elsewhere"))
    assert ModelStore().directory == tmp_path / "elsewhere"
