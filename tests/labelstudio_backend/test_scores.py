"""How good a picture's predictions are expected to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from sam_plugins.labelstudio_backend.scores import Evidence, evidence_of, picture_score
from sam_plugins.model.evaluation.metrics import mean_segmentation_accuracy
from sam_plugins.model.inference.automatic import instance_maps, segment_embedding
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.io.labelled import list_manifest_files


def test_evidence_is_read_from_scores_labels_and_maps() -> None:
    labels = np.zeros((8, 12), np.int32)
    labels[:4, :6] = 1
    foreground = np.zeros((4, 6), np.float32)
    foreground[:2, :4] = 0.75  # half as much again as was drawn
    found = evidence_of(np.array([0.5, 1.0], np.float32), labels, foreground)
    assert found.mean == 0.75
    np.testing.assert_allclose(found.low, 0.55)
    np.testing.assert_allclose(found.coverage, 6 / 8)
    np.testing.assert_allclose(found.certainty, (8 * 0.5 + 16 * 1) / 24)


def test_a_picture_without_objects_comes_first() -> None:
    empty = evidence_of(np.zeros(0), np.zeros((4, 4), np.int32), np.zeros((2, 2), np.float32))
    assert picture_score(empty) == 0
    assert picture_score(Evidence(0.3, 0.1, 0.1, 0.3)) > 0


def test_worse_pictures_have_lower_scores(shipped_model: Model, test_data: Path) -> None:
    scores, qualities = [], []
    for name in ("dsb2018", "skin_lesions", "tem_axons"):
        for file in list_manifest_files(test_data, [name])[:3]:
            image = file.read()
            embedding = encode_image(shipped_model, image.image)
            found = segment_embedding(shipped_model, embedding)
            maps = instance_maps(shipped_model, embedding)
            evidence = evidence_of(found.scores, found.labels, maps.foreground)
            scores.append(picture_score(evidence))
            qualities.append(mean_segmentation_accuracy(image.labels, found.labels))
    assert spearmanr(scores, qualities).statistic > 0.5, (scores, qualities)
