"""The review queue: what comes next, and what of a review reaches the label store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from sam_plugins.errors import ProjectError
from sam_plugins.model.engine.label_store import LabelledObject, ReviewState, Stage
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.io.rle import decode_mask, encode_mask
from sam_plugins.napari_plugin.jobs import JobProgress
from sam_plugins.napari_plugin.reviewing import (
    PictureToReview,
    accept_review,
    bring_pictures,
    next_to_review,
    reject_review,
)

SQUARES = ((4, 4), (4, 24), (24, 4))


def quiet() -> JobProgress:
    return JobProgress(lambda kind, value: None)


def square(top: int, left: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros((40, 40), bool)
    mask[top : top + 10, left : left + 10] = True
    return mask


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Three pictures, none labelled; the second has three proposals."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        picture = rng.integers(0, 60, (40, 40)).astype(np.uint8)
        for place in SQUARES:
            picture[square(*place)] += np.uint8(150)
        tifffile.imwrite(pictures / f"p{number}.tif", picture)
    folder = tmp_path / "project"
    brought = bring_pictures(folder, "mine", pictures, progress=quiet())
    assert (brought.new, brought.skipped) == (3, ())
    with Project.open(folder) as opened:
        assert all(one.split is not None for one in opened.labels.images())
        image_id = opened.labels.images()[1].image_id
        opened.labels.put_objects(
            LabelledObject(
                image_id,
                encode_mask(square(*place)),
                stage=Stage.SEMI_AUTOMATIC,
                review=ReviewState.PROPOSED,
                score=0.9,
            )
            for place in SQUARES
        )
    return folder


def opened(project: Path, passed: set[str] | None = None) -> PictureToReview:
    return next_to_review(project, passed or set(), "cpu", progress=quiet())


def stored(project: Path, picture: PictureToReview) -> list[tuple[str, int]]:
    """Return state and area of each object of a picture."""
    with Project.open(project) as known:
        return sorted(
            (str(one.review), int(decode_mask(one.rle).sum()))
            for one in known.labels.objects(picture.image_id)
        )


def test_pictures_whose_proposals_wait_come_first(project: Path) -> None:
    picture = opened(project)
    assert (picture.name, picture.proposals, picture.why) == ("p1.tif", 3, "its proposals wait")
    assert (picture.project.proposals, picture.project.waiting) == (3, 1)
    assert picture.project.unlabelled == 3
    assert sorted(np.unique(picture.labels)) == [0, 1, 2, 3]
    assert stored(project, picture) == [("proposed", 100)] * 3


def test_what_is_left_as_it_was_is_accepted(project: Path) -> None:
    picture = opened(project)
    done = accept_review(
        project, picture, picture.labels.copy(), is_complete=False, progress=quiet()
    )
    assert str(done.labelled) == "3 accepted"
    assert (done.project.proposals, done.project.unlabelled) == (0, 2)
    assert stored(project, picture) == [("accepted", 100)] * 3
    with Project.open(project) as known:
        assert not known.labels.image(picture.image_id).is_complete


def test_edits_correct_reject_and_add(project: Path) -> None:
    picture = opened(project)
    labels = picture.labels.copy()
    first, second = labels[5, 5], labels[5, 25]
    labels[labels == first] = 0  # deleted
    labels[14:17, 24:34] = second  # painted on
    labels[30:36, 30:36] = 9  # clicked
    done = accept_review(project, picture, labels, is_complete=True, progress=quiet())
    assert str(done.labelled) == "1 accepted, 1 corrected, 1 added, 1 rejected"
    assert stored(project, picture) == [
        ("accepted", 36),
        ("accepted", 100),
        ("corrected", 130),
        ("rejected", 100),
    ]
    with Project.open(project) as known:
        assert known.labels.image(picture.image_id).is_complete


def test_all_proposals_are_rejected(project: Path) -> None:
    picture = opened(project)
    with pytest.raises(ProjectError, match="press Reject all"):
        accept_review(project, picture, picture.labels * 0, is_complete=False, progress=quiet())
    assert stored(project, picture) == [("proposed", 100)] * 3
    done = reject_review(project, picture, progress=quiet())
    assert str(done.labelled) == "3 rejected"
    assert stored(project, picture) == [("rejected", 100)] * 3


def test_proposals_that_overlap_are_accepted_as_they_are(project: Path) -> None:
    picture = opened(project)
    with Project.open(project) as known:
        known.labels.put_objects(
            [
                LabelledObject(
                    picture.image_id,
                    encode_mask(square(9, 9)),
                    stage=Stage.FULLY_AUTOMATIC,
                    review=ReviewState.PROPOSED,
                )
            ]
        )
    picture = opened(project)
    accept_review(project, picture, picture.labels.copy(), is_complete=False, progress=quiet())
    assert stored(project, picture) == [("accepted", 100)] * 4


def test_then_comes_what_the_engine_ranks_with_proposals(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam_plugins.model.engine.project import choosing

    looked: list[Any] = []
    measure = choosing.measure_signals
    monkeypatch.setattr(
        choosing, "measure_signals", lambda *a, **k: (looked.append(a[1]), measure(*a, **k))[1]
    )
    waiting = opened(project)
    picture = opened(project, {waiting.image_id})
    assert looked
    assert picture.name in {"p0.tif", "p2.tif"}
    assert picture.proposals > 0
    assert stored(project, picture) == sorted(stored(project, picture))
    assert {state for state, _ in stored(project, picture)} == {"proposed"}
    assert picture.project.waiting == 2


def test_when_all_is_labelled_the_remedy_is_told(project: Path) -> None:
    with Project.open(project) as known:
        for one in known.labels.images():
            known.labels.set_complete(one.image_id)
            for object_id in known.proposals_of(one.image_id):
                known.labels.set_review(object_id, ReviewState.REJECTED)
    with pytest.raises(ProjectError, match="press Bring in pictures"):
        opened(project)
