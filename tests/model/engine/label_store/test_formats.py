"""What every format must do: there and back, again without doubles, and errors in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.labelled_sets import write_sets
from tests.model.engine.label_store.helpers import SIZE_HW, accepted, square, write_picture

from sam_plugins.errors import DatasetError, LabelStoreError
from sam_plugins.model.engine.label_store import (
    ImageRecord,
    ImageSource,
    LabelledObject,
    LabelStore,
    PromptEvent,
    ReviewState,
    Split,
    Stage,
)
from sam_plugins.model.engine.label_store.coco import export_coco, import_coco
from sam_plugins.model.engine.label_store.exporting import ExportOptions
from sam_plugins.model.engine.label_store.importing import ImportOptions, ImportReport
from sam_plugins.model.engine.label_store.label_studio import import_label_studio
from sam_plugins.model.engine.label_store.label_studio_export import export_label_studio
from sam_plugins.model.engine.label_store.labelled_sets import (
    export_folder_pair,
    import_folder_pair,
    import_labelled_files,
)
from sam_plugins.model.engine.label_store.sa1b import export_sa1b, import_sa1b
from sam_plugins.model.io.labelled import list_manifest_files


@dataclass(frozen=True)
class Format:
    """How a format is written to a folder, and read from there with the pictures elsewhere."""

    write: Callable[[LabelStore, Path], int]
    read: Callable[[LabelStore, Path, Path], ImportReport]


FORMATS = {
    "coco": Format(
        lambda store, to: export_coco(store, to / "all.json"),
        lambda store, to, images: import_coco(store, to / "all.json", images),
    ),
    "coco with pictures": Format(
        lambda store, to: export_coco(store, to / "all.json", to / "copied"),
        lambda store, to, _: import_coco(store, to / "all.json", to / "copied"),
    ),
    "sa1b": Format(export_sa1b, lambda store, to, _: import_sa1b(store, to)),
    "label studio": Format(
        lambda store, to: export_label_studio(store, to / "tasks.json"),
        lambda store, to, images: import_label_studio(store, to / "tasks.json", images),
    ),
    "folders": Format(
        export_folder_pair,
        lambda store, to, _: import_folder_pair(store, to / "images", to / "labels"),
    ),
}
WHOLE = ["coco", "coco with pictures", "sa1b"]
"""Formats in which our own objects come back with every field."""


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> Format:
    """Each format."""
    return FORMATS[request.param]


@pytest.fixture
def other(tmp_path: Path) -> LabelStore:
    """A fresh store."""
    return LabelStore.create(tmp_path / "other")


def masks_of(store: LabelStore) -> dict[str, set[str]]:
    """All masks by picture."""
    return {
        record.image_id: {one.rle["counts"] for one in store.objects(record.image_id)}
        for record in store.images()
    }


def test_masks_come_back(
    kind: Format, store: LabelStore, image: ImageRecord, other: LabelStore, tmp_path: Path
) -> None:
    second = store.add_images([write_picture(tmp_path / "project" / "b.png", 1, (9, 40))])[0]
    comb = np.zeros(SIZE_HW, bool)
    comb[::2, 10:] = True
    store.put_objects(
        [
            accepted(image.image_id, square(0, 0)),
            accepted(image.image_id, comb),
            accepted(second.image_id, square(5, 36, size_hw=(9, 40))),
            LabelledObject.of_mask(image.image_id, square(15, 0), object_id="not yet accepted"),
        ]
    )
    assert kind.write(store, tmp_path / "out") == 3
    report = kind.read(other, tmp_path / "out", tmp_path / "project")
    assert (len(report.image_ids), report.added, report.known, report.skipped) == (2, 3, 0, ())
    store.delete_object("not yet accepted")
    assert masks_of(other) == masks_of(store)

    before = other.objects()
    again = kind.read(other, tmp_path / "out", tmp_path / "project")
    assert (again.added, again.known, again.changed) == (0, 3, 0)
    assert other.objects() == before


@pytest.mark.parametrize("name", WHOLE)
def test_our_objects_come_back_with_all_that_is_known(
    name: str, store: LabelStore, image: ImageRecord, other: LabelStore, tmp_path: Path
) -> None:
    stored = LabelledObject.of_mask(
        image.image_id,
        square(3, 3),
        class_name="Zelle, groß",
        prompts=(
            PromptEvent.box(1, 2, 8.5, 9),
            PromptEvent.point(3, 4, is_positive=False),
            PromptEvent.words("nucleus"),
            PromptEvent.mask({"size": [20, 30], "counts": "T="}),
        ),
        author="ada@example.org",
        created_at=datetime(2026, 5, 4, 3, 2, 1, 5, UTC),
        seconds=12.5,
        model_id="mine@3",
        stage=Stage.SEMI_AUTOMATIC,
        review=ReviewState.CORRECTED,
        score=0.93,
        extra={"stability_score": 0.97},
    )
    store.put_objects([stored])
    store.set_complete(image.image_id)
    store.set_split(image.group, Split.HELD_OUT)
    FORMATS[name].write(store, tmp_path / "out")
    FORMATS[name].read(other, tmp_path / "out", tmp_path / "project")
    assert other.objects() == [stored]
    (record,) = other.images()
    assert (record.group, record.split, record.is_complete) == (image.group, "held-out", True)


@pytest.mark.parametrize("name", ["coco", "coco with pictures"])
def test_crowds_come_back(
    name: str, store: LabelStore, image: ImageRecord, other: LabelStore, tmp_path: Path
) -> None:
    store.put_objects([accepted(image.image_id, square(3, 3), is_crowd=True, class_name="people")])
    FORMATS[name].write(store, tmp_path / "out")
    FORMATS[name].read(other, tmp_path / "out", tmp_path / "project")
    assert [one.is_crowd for one in other.objects()] == [True]
    assert other.label_image(image.image_id).max() == 0


def test_folders_keep_what_is_to_be_ignored(
    store: LabelStore, image: ImageRecord, other: LabelStore, tmp_path: Path
) -> None:
    store.put_objects(
        [
            accepted(image.image_id, square(3, 3)),
            accepted(image.image_id, square(5, 5, 6), is_crowd=True),
        ]
    )
    out = tmp_path / "out"
    assert export_folder_pair(store, out) == 1
    import_folder_pair(other, out / "images", out / "labels", ignore_dir=out / "ignore")
    (file,) = other.as_labelled_files()
    np.testing.assert_array_equal(file.read().labels, square(3, 3))
    np.testing.assert_array_equal(file.read().ignore, square(5, 5, 6) & ~square(3, 3))


@pytest.mark.parametrize("name", ["coco", "coco with pictures", "sa1b", "folders"])
def test_planes_come_back(name: str, store: LabelStore, tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (4, 12, 16), np.uint8)
    (tmp_path / "project").mkdir(exist_ok=True)
    path = tmp_path / "project" / "stack.tif"
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    records = store.add_images([ImageSource(path, plane) for plane in (1, 3)])
    for number, record in enumerate(records):
        store.put_objects([accepted(record.image_id, square(number, 2, size_hw=(12, 16)))])
    kind = FORMATS[name]
    kind.write(store, tmp_path / "out")
    with LabelStore.create(tmp_path / "fresh") as other:
        kind.read(other, tmp_path / "out", tmp_path / "project")
        found = [(store.read_image(r.image_id), store.label_image(r.image_id)) for r in records]
        again = [
            (other.read_image(r.image_id), other.label_image(r.image_id)) for r in other.images()
        ]
    for (pixels, labels), (pixels_again, labels_again) in zip(found, again, strict=True):
        np.testing.assert_array_equal(pixels, pixels_again)
        np.testing.assert_array_equal(labels, labels_again)


def test_pictures_of_one_name_do_not_meet(
    kind: Format, store: LabelStore, other: LabelStore, tmp_path: Path
) -> None:
    paths = [tmp_path / "project" / name for name in ("m/a.png", "n/A.png", "n/b.png")]
    for number, record in enumerate(
        store.add_images(write_picture(path, seed) for seed, path in enumerate(paths))
    ):
        store.put_objects([accepted(record.image_id, square(number, number))])
    kind.write(store, tmp_path / "out")
    kind.read(other, tmp_path / "out", tmp_path / "project")
    assert masks_of(other) == masks_of(store)


def test_nothing_to_export_is_said(kind: Format, store: LabelStore, tmp_path: Path) -> None:
    store.add_images([write_picture(tmp_path / "a.png")])
    with pytest.raises(LabelStoreError, match=r"nothing to export: .* accepted or corrected"):
        kind.write(store, tmp_path / "out")


def test_other_states_and_one_split_are_exported(
    store: LabelStore, image: ImageRecord, tmp_path: Path
) -> None:
    store.put_objects([LabelledObject.of_mask(image.image_id, square(0, 0))])
    options = ExportOptions(reviews=(ReviewState.PROPOSED,))
    assert export_coco(store, tmp_path / "a.json", options=options) == 1
    with pytest.raises(LabelStoreError, match="nothing to export"):
        export_coco(store, tmp_path / "a.json", options=ExportOptions(split=Split.TRAIN))
    assert export_coco(store, tmp_path / "b.json", options=ExportOptions(with_empty=True)) == 0
    assert len(json.loads((tmp_path / "b.json").read_text())["images"]) == 1


def test_pictures_that_are_not_there_are_told(
    kind: Format, store: LabelStore, image: ImageRecord, other: LabelStore, tmp_path: Path
) -> None:
    store.put_objects([accepted(image.image_id, square(0, 0))])
    kind.write(store, tmp_path / "out")
    for path in [*tmp_path.glob("project/*.png"), *tmp_path.glob("out/**/a.png")]:
        path.unlink()
    with pytest.raises(DatasetError, match=r"no picture .*(could be imported|in ).*"):
        kind.read(other, tmp_path / "out", tmp_path / "project")


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (import_coco, "{", "is no JSON .*; it may be cut short, export it again"),
        (
            import_coco,
            "[]",
            "is no COCO document that we can read: it holds a list; it needs 'images'",
        ),
        (import_coco, '{"images": [{}], "annotations": []}', "is no COCO document"),
        (import_coco, '{"images": [], "annotations": []}', r"\(it names none\)$"),
        (import_label_studio, "{}", "must be a list of tasks with 'data'; export the project as"),
        (import_label_studio, "[]", r"\(it names none\)"),
        (
            import_label_studio,
            '[{"data": {"img": "a"}}]',
            r"\(task 1 of the list: no 'image' in its data, which has 'img'\)$",
        ),
    ],
)
def test_other_documents_are_refused(
    read: Callable[..., ImportReport], content: str, message: str, other: LabelStore, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        read(other, tmp_path / "a.json")
    with pytest.raises(DatasetError, match=r"cannot read .*: No such file or directory; check"):
        read(other, tmp_path / "none.json")


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ('{"id": 7, "data": {"image": "a.png"}}', "task 7"),
        ('{"data": {"image": "a.png"}}', "task 1 of the list"),
    ],
)
def test_pictures_that_lie_elsewhere_are_asked_for(
    task: str, name: str, other: LabelStore, tmp_path: Path
) -> None:
    document = tmp_path / "labels.json"
    document.write_text(f"[{task}]")
    with pytest.raises(
        DatasetError,
        match=rf"\({name} \(a.png\): no such picture\); give the folder .* as --images DIR",
    ):
        import_label_studio(other, document)
    with pytest.raises(DatasetError, match=r"there is no folder .*none; name the one that holds"):
        import_label_studio(other, document, tmp_path / "none")


def test_damaged_sa1b_documents_are_told(other: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no document \*.json in .*; name the folder"):
        import_sa1b(other, tmp_path)
    with pytest.raises(DatasetError, match=r"there is no folder .*none; name the one"):
        import_sa1b(other, tmp_path / "none")
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"a\.json: .* is no JSON .*b\.json: no SA-1B document"):
        import_sa1b(other, tmp_path)


def test_manifests_are_imported_with_whole_masks_and_ignored_regions(
    store: LabelStore, tmp_path: Path
) -> None:
    write_sets(tmp_path / "sets")
    files = list_manifest_files(tmp_path / "sets", volume_step=5)
    report = import_labelled_files(store, files, group_of_file=lambda file: f"set {file.set_name}")
    assert report.skipped == ()
    for file in files:
        read = file.read()
        wanted = {
            (read.whole_masks.get(n, read.labels == n)).tobytes()
            for n in np.unique(read.labels)
            if n
        }
        # some of these pictures are the same, which makes one record of them
        (record,) = store.add_images([ImageSource(file.image_path, file.plane)])
        found = store.objects(record.image_id, crowds=False)
        assert wanted <= {one.mask().tobytes() for one in found}
        assert record.group in {"set cells", "set photos"}
        assert record.split == Split.HELD_OUT
    (crowd,) = [one for one in store.objects() if one.is_crowd]
    assert crowd.mask()[:, 40:].all()
    assert not crowd.mask()[:, :40].any()


def test_what_people_made_since_stays(
    kind: Format, store: LabelStore, image: ImageRecord, other: LabelStore, tmp_path: Path
) -> None:
    store.put_objects([accepted(image.image_id, square(0, 0))])
    kind.write(store, tmp_path / "out")
    kind.read(other, tmp_path / "out", tmp_path / "project")
    (one,) = other.objects()
    other.set_review(one.object_id, "rejected", author="bob")
    kind.read(other, tmp_path / "out", tmp_path / "project")
    assert [one.review for one in other.objects()] == ["rejected"]


def test_options_say_what_the_file_does_not(
    other: LabelStore, store: LabelStore, image: ImageRecord, tmp_path: Path
) -> None:
    store.put_objects([accepted(image.image_id, square(0, 0))])
    export_folder_pair(store, tmp_path / "out")
    options = ImportOptions(
        author="eve",
        review=ReviewState.PROPOSED,
        is_complete=True,
        split=Split.TRAIN,
        group_of=lambda path: "all",
    )
    folders = tmp_path / "out" / "images", tmp_path / "out" / "labels"
    import_folder_pair(other, *folders, options, class_name="cell")
    (one,) = other.objects()
    assert (one.author, one.review, one.class_name) == ("eve", "proposed", "cell")
    (record,) = other.images()
    assert (record.is_complete, record.split, record.group) == (True, "train", "all")


masks = hnp.arrays(bool, SIZE_HW, elements=st.booleans()).filter(np.any)


@pytest.mark.parametrize("name", ["coco", "sa1b", "label studio"])
@given(st.lists(masks, min_size=1, max_size=3))
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_masks_come_back(
    name: str, tmp_path_factory: pytest.TempPathFactory, masks: list[np.ndarray]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with LabelStore.create(folder / "s") as store, LabelStore.create(folder / "t") as other:
        (record,) = store.add_images([write_picture(folder / "a.png")])
        store.put_objects(accepted(record.image_id, mask) for mask in masks)
        FORMATS[name].write(store, folder / "out")
        FORMATS[name].read(other, folder / "out", folder)
        assert masks_of(other) == masks_of(store)
