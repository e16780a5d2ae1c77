"""How long automatic segmentation takes, as far as what is done tells."""

from __future__ import annotations

from sam_plugins.napari_plugin.automatic import Pace


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
