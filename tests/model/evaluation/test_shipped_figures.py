"""How good the shipped model is must not become less: what its passport says, and what is measured.

The bounds are what was asked of the first model, or a little below version 11 where that is more. A
better version is shipped without touching them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_plugins.model.evaluation.loaded import LoadedModel
from sam_plugins.model.evaluation.measure import measure
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.io.labelled import list_manifest_files
from sam_plugins.model.weights.loading import load_checkpoint

Figures = dict[str, dict[str, float]]

LEAST: Figures = {
    "prompts, dsb2018": {
        "point_best_iou": 0.84,
        "point_confident_iou": 0.78,
        "box_iou": 0.86,
    },
    "prompts, usiigaci_phase": {"point_best_iou": 0.69, "box_iou": 0.75},
    "prompts, mean over": {
        "point_best_iou": 0.68,
        "point_confident_iou": 0.62,
        "box_iou": 0.78,
    },
    "automatic, dsb2018": {"msa": 0.58},
}
"""By task and set, as the passport names them; the mean is over as many sets as there are."""

LEAST_MEASURED = {"point_best_iou": 0.80, "point_confident_iou": 0.74, "box_iou": 0.81}
"""Of sixty objects; version 9 has 0.820, 0.765 and 0.833 on a CPU."""


@pytest.fixture(scope="module")
def stated() -> Figures:
    passport = load_checkpoint("default").passport
    assert passport is not None
    return passport.metrics


@pytest.mark.parametrize("task", LEAST)
def test_the_passport_states_enough(stated: Figures, task: str) -> None:
    (found,) = [figures for name, figures in stated.items() if name.startswith(task)]
    low = {name: found[name] for name, least in LEAST[task].items() if found[name] < least}
    assert not low, f"{task}: below {LEAST[task]}"


def test_the_mean_is_over_all_sets(stated: Figures) -> None:
    (mean,) = [name for name in stated if name.startswith("prompts, mean over")]
    assert int(mean.split()[3]) == sum(name.startswith("prompts, ") for name in stated) - 1 >= 40


@pytest.mark.slow
def test_the_weights_are_as_good_as_their_passport_states(test_data: Path, stated: Figures) -> None:
    files = list_manifest_files(test_data, ["dsb2018"], split="val")
    some = files[:: len(files) // 10][:10]
    model = LoadedModel(load_model("default", device="cpu"))
    report = measure("default", some, model=model, max_objects=6)
    assert report.prompts is not None
    found = {name: one.mean for name, one in report.prompts.sets["dsb2018"].items()}
    assert len(report.object_scores) == 60
    for name, least in LEAST_MEASURED.items():
        assert found[name] >= least, name
        # Sixty objects, of pictures that are no harder than most, tell as much of the whole set.
        assert found[name] == pytest.approx(stated["prompts, dsb2018"][name], abs=0.08), name
