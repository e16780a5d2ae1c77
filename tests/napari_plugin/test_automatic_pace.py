"""How long automatic segmentation takes, as far as what is done tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sam_plugins.napari_plugin.automatic import Pace, picture_kind
from sam_plugins.napari_plugin.automatic_estimate import RunEstimate
from sam_plugins.napari_plugin.automatic_params import WHERE, FindParams
from sam_plugins.napari_plugin.current_model import CurrentModel, ModelChoice
from sam_plugins.napari_plugin.images import ImageSource


class Clock:
    """Shows the seconds that it is set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_quarter_of_the_first_tile_tells() -> None:
    clock = Clock()
    pace = Pace(4, clock)
    pace.note(0, 0)  # the model is loaded, a few windows are looked at
    clock.now = 130
    pace.note(0, 0)  # the tiles are known
    pace.note(0, 800)
    clock.now = 134
    pace.note(24, 800)
    assert pace.seconds_left is None
    assert pace.seconds_per_picture is None
    clock.now = 135
    pace.note(25, 800)
    assert pace.seconds_left == 155
    clock.now = 210
    pace.note(400, 800)
    assert pace.seconds_left == 80
    pace.note(800, 800)
    assert pace.seconds_left == 0


def test_pictures_are_those_expected_however_many_tiles_there_are() -> None:
    clock = Clock()
    few, many = Pace(4, clock), Pace(4, clock)
    few.note(0, 0)
    many.note(0, 0)
    clock.now += 32
    few.note(200, 400)
    many.note(800, 1600)
    assert few.seconds_per_picture == many.seconds_per_picture == 16


def pace_of(seconds: float) -> Pace:
    """Return the pace of a run of two pictures."""
    clock = Clock()
    pace = Pace(2, clock)
    pace.note(0, 0)
    clock.now += 2 * seconds
    pace.note(200, 200)
    return pace


def test_earlier_runs_tell_roughly_before_the_first_one_of_a_day() -> None:
    small, large = (ImageSource([np.zeros((side, side), np.uint8)]) for side in (500, 6000))
    params, grid = FindParams(), FindParams(prompts="grid")
    first = RunEstimate(CurrentModel(ModelChoice("default", "cpu")))
    assert "on cpu; how long, the first one will tell; " in first.text(large, params)
    assert first.note(pace_of(30))
    assert "on cpu; about 1 s left; " in first.text(small, params)
    first.end()
    assert "will tell" in first.text(small, params)  # it was not complete, or not all new
    another = RunEstimate(CurrentModel(ModelChoice("default", "cpu")))
    first.keep(pace_of(30), first.key(params, "whole"))
    assert "1 picture for the model, on cpu; about 30 s; " in first.text(small, params)
    assert "roughly 30 s, as earlier runs tell" in another.text(small, params)
    assert "64 pictures for the model, on cpu; roughly 32 min" in another.text(large, params)
    first.keep(pace_of(15), first.key(params, "tiles"))
    assert "roughly 16 min" in another.text(large, params)
    assert "roughly 30 s" in another.text(small, params)
    assert "will tell" in another.text(small, grid)
    other = RunEstimate(CurrentModel(ModelChoice("mobile_sam", "cpu")))
    assert "will tell" in other.text(small, params)


def test_pictures_looked_at_closer_have_a_pace_of_their_own_and_say_how_long_it_may_be() -> None:
    small, wide = (ImageSource([np.zeros(shape, np.uint8)]) for shape in ((500, 500), (500, 1400)))
    stack = ImageSource([np.zeros((3, 500, 1400), np.uint8)])
    params, warning = FindParams(), "where objects are small, up to ten times as long as with Look"
    estimate = RunEstimate(CurrentModel(ModelChoice("default", "cpu")))
    assert f"the first one will tell; {warning} closer off; " in estimate.text(wide, params)
    for where in WHERE[2:]:
        assert warning in estimate.text(stack, replace(params, where=where))
    assert warning not in estimate.text(small, params)
    for others in ({"looks_closer": False}, {"prompts": "grid"}):
        assert warning not in estimate.text(stack, replace(params, **others))
    estimate.keep(pace_of(30), estimate.key(params, picture_kind((500, 500), params)))
    assert f"roughly 30 s, as earlier runs tell; {warning}" in estimate.text(wide, params)
    estimate.keep(pace_of(180), estimate.key(params, picture_kind((500, 1400), params)))
    assert f"about 3 min; {warning}" in estimate.text(wide, params)
    assert "about 30 s; " in estimate.text(small, params)
    assert "about 30 s; " in estimate.text(wide, replace(params, looks_closer=False))
    assert estimate.note(pace_of(5))
    assert warning not in estimate.text(wide, params)  # it is known by now
