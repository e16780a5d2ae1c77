"""Which pictures belong together, and which are held out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.engine.label_store.helpers import write_picture

from sam_plugins.errors import LabelStoreError
from sam_plugins.model.engine.label_store import ImageSource, LabelStore, Split
from sam_plugins.model.engine.label_store.grouping import by_folder, by_name, by_pattern
from sam_plugins.model.engine.label_store.splits import draw_splits


@pytest.mark.parametrize(
    ("names", "group"),
    [
        (["s7_x0_y512", "s7_x512_y0", "s7-x0-y0"], "s7"),
        (["s7_0_512", "s7_1024_0", "s7_0_512_512x512"], "s7"),
        (["s7_tile12", "s7_tile_3", "s7-Tile-004", "s7 (crop2)", "s7_crop"], "s7"),
        (["s7_r0_c3", "s7_row1_col2", "s7 r=1 c=2"], "s7"),
        (["film_t003", "film_t004_z01", "film_frame0007"], "film"),
        (["img_001"], "img_001"),
        (["img_002"], "img_002"),
        (["max12"], "max12"),
        (["x0_y0"], "x0_y0"),
    ],
)
def test_names_tell_what_was_cut(names: list[str], group: str) -> None:
    assert {by_name(Path("scans") / f"{name}.tif") for name in names} == {f"scans/{group}"}


def test_a_pattern_must_be_one() -> None:
    with pytest.raises(ValueError, match=r"pattern must be a regular expression, got '\('"):
        by_pattern("(")
    assert by_pattern("a+")(Path("baab.png")) == "aa"


def test_groups_are_never_divided(store: LabelStore, tmp_path: Path) -> None:
    paths = [
        write_picture(tmp_path / f"slide{slide}_x{x}_y0.png", 10 * slide + x)
        for slide in range(5)
        for x in range(4)
    ]
    store.add_images(paths)
    counts = store.assign_splits(0.25, seed=3)
    assert counts == {Split.TRAIN: 16, Split.HELD_OUT: 4}
    by_group: dict[str, set[Split | None]] = {}
    for one in store.images():
        by_group.setdefault(one.group, set()).add(one.split)
    assert all(len(splits) == 1 for splits in by_group.values())
    assert len(store.images(split="held-out")) == 4


def test_pictures_keep_their_split_when_others_come(store: LabelStore, tmp_path: Path) -> None:
    store.add_images(write_picture(tmp_path / f"{n}.png", n) for n in range(8))
    store.assign_splits(0.25)
    before = {one.image_id: one.split for one in store.images()}
    store.add_images(write_picture(tmp_path / f"{n}.png", n) for n in range(8, 24))
    assert [one.split for one in store.images()][8:] == [None] * 16
    assert store.assign_splits(0.25, seed=9) == {Split.TRAIN: 18, Split.HELD_OUT: 6}
    after = {one.image_id: one.split for one in store.images()}
    assert before.items() <= after.items()


def test_a_new_crop_of_a_known_slide_goes_where_the_others_are(
    store: LabelStore, tmp_path: Path
) -> None:
    store.add_images(write_picture(tmp_path / f"{n}_x0.png", n) for n in range(4))
    store.assign_splits(0.5)
    new = store.add_images(write_picture(tmp_path / f"{n}_x9.png", 9 + n) for n in range(4))
    by_group = {one.group: one.split for one in store.images()[:4]}
    assert [one.split for one in new] == [by_group[one.group] for one in new]


def test_folders_and_callers_group(store: LabelStore, tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / folder / "a.png", ord(folder)) for folder in "mn"]
    assert [one.group for one in store.add_images(paths, group_of=by_folder)] == ["m", "n"]
    own = ImageSource(write_picture(tmp_path / "z.png", 99), group="mine")
    assert store.add_images([own], group_of=by_folder)[0].group == "mine"


def test_one_group_cannot_be_split(store: LabelStore, tmp_path: Path) -> None:
    store.add_images(
        [write_picture(tmp_path / f"{n}.png", n) for n in range(3)], group_of=lambda _: "all"
    )
    with pytest.raises(LabelStoreError, match=r"got 1 \('all' with 3 pictures\); add other"):
        store.assign_splits(0.25)
    with pytest.raises(ValueError, match="held_out_share must lie between 0 and 1, got 1"):
        store.assign_splits(1)


def test_pictures_are_put_together_by_hand(store: LabelStore, tmp_path: Path) -> None:
    a, b, c = store.add_images(write_picture(tmp_path / f"{n}.png", n) for n in range(3))
    store.set_split(a.group, "train")
    store.set_split(b.group, "held-out")
    store.set_group([a.image_id, b.image_id], "one scan")
    assert [one.split for one in store.images()] == [Split.TRAIN, Split.TRAIN, None]
    store.set_group([c.image_id], "one scan")
    assert {one.split for one in store.images()} == {Split.TRAIN}
    store.set_split("one scan", None)
    assert {one.split for one in store.images()} == {None}
    with pytest.raises(LabelStoreError, match="has no group 'other'; images"):
        store.set_split("other", "train")
    with pytest.raises(ValueError, match="group must not be empty"):
        store.set_group([a.image_id], "")


sizes = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 5), min_size=2)


@given(sizes, st.floats(0.05, 0.95), st.integers(0, 3), st.data())
@settings(max_examples=40)
def test_draws_are_complete_close_and_final(
    sizes: dict[str, int], share: float, seed: int, data: st.DataObject
) -> None:
    early = data.draw(st.sets(st.sampled_from(sorted(sizes))))
    drawn = (
        draw_splits({group: sizes[group] for group in early}, {}, share, seed)
        if len(early) > 1
        else {}
    )
    result = draw_splits(sizes, drawn, share, seed)
    assert not result.keys() & drawn.keys()
    everything = result | drawn
    assert everything.keys() == sizes.keys()
    assert set(everything.values()) == {Split.TRAIN, Split.HELD_OUT}
    if not drawn:
        held_out = sum(sizes[group] for group in result if result[group] == Split.HELD_OUT)
        assert abs(held_out - share * sum(sizes.values())) <= max(sizes.values())
