"""The official MAE names, mapped onto SAM's image encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam_plugins.errors import CheckpointError, ForeignCheckpointError
from sam_plugins.model.networks.config import SAM_VIT_B, SamConfig, VitConfig
from sam_plugins.model.weights.mae import load_mae, mae_start, start_sam

TINY = VitConfig(
    embed_dim=8,
    depth=2,
    num_heads=2,
    global_attention_blocks=(1,),
    image_size=64,
    patch_size=8,
    window_size=3,
    out_dim=6,
)


def mae_state(width: int = 8, depth: int = 2, patch: int = 8, grid: int = 4) -> dict[str, Tensor]:
    """Random weights under the names of the MAE repository."""
    state = {
        "cls_token": torch.rand(1, 1, width),
        "mask_token": torch.rand(1, 1, width),
        "pos_embed": torch.rand(1, 1 + grid * grid, width),
        "patch_embed.proj.weight": torch.rand(width, 3, patch, patch),
        "patch_embed.proj.bias": torch.rand(width),
        "norm.weight": torch.rand(width),
        "norm.bias": torch.rand(width),
        "decoder_embed.weight": torch.rand(4, width),
    }
    for block in range(depth):
        for part, shape in {
            "norm1": (width,),
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "norm2": (width,),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            state[f"blocks.{block}.{part}.weight"] = torch.rand(shape)
            state[f"blocks.{block}.{part}.bias"] = torch.rand(shape[0])
    return state


def test_names_are_mapped_and_the_rest_is_accounted_for() -> None:
    state = mae_state()
    start = mae_start(state, TINY)
    for mine, theirs in {
        "blocks.0.attn.qkv.weight": "blocks.0.attn.qkv.weight",
        "blocks.1.mlp.lin1.weight": "blocks.1.mlp.fc1.weight",
        "blocks.1.mlp.lin2.bias": "blocks.1.mlp.fc2.bias",
        "patch_embed.proj.bias": "patch_embed.proj.bias",
    }.items():
        assert start.state_dict[mine] is state[theirs]
    assert set(start.left_aside) == {
        "cls_token",
        "mask_token",
        "norm.weight",
        "norm.bias",
        "decoder_embed.weight",
    }
    assert start.fresh == (
        "blocks.0.attn.rel_pos_h",
        "blocks.0.attn.rel_pos_w",
        "blocks.1.attn.rel_pos_h",
        "blocks.1.attn.rel_pos_w",
        "neck",
    )
    assert start.state_dict["blocks.0.attn.rel_pos_h"].shape == (5, 4)  # Windows of 3.
    assert start.state_dict["blocks.1.attn.rel_pos_w"].shape == (15, 4)  # The grid of 8.
    assert not start.state_dict["blocks.1.attn.rel_pos_w"].any()


def test_positions_are_interpolated_without_the_class_token() -> None:
    state = mae_state()
    ramp = torch.arange(4.0)
    grid = torch.stack([ramp.repeat_interleave(4), ramp.repeat(4)] * 4, dim=-1)  # Rows, columns.
    state["pos_embed"] = torch.cat([torch.full((1, 1, 8), 99.0), grid[None]], dim=1)
    positions = mae_start(state, TINY).state_dict["pos_embed"]
    assert positions.shape == (1, 8, 8, 8)
    # Cell i of 8 lies at (i + 0.5) / 2 - 0.5 of 4; PyTorch's cubic follows a ramp to 0.05.
    middle = torch.tensor([1.25, 1.75])
    torch.testing.assert_close(positions[0, 3:5, 0, 0], middle, rtol=0, atol=0.05)
    torch.testing.assert_close(positions[0, 0, 3:5, 1], middle, rtol=0, atol=0.05)


def test_positions_of_the_right_size_stay() -> None:
    state = mae_state(grid=8)
    positions = mae_start(state, TINY).state_dict["pos_embed"]
    torch.testing.assert_close(positions.reshape(64, 8), state["pos_embed"][0, 1:], rtol=0, atol=0)


def test_patches_of_another_size_are_resampled() -> None:
    state = mae_state(patch=7)
    state["patch_embed.proj.weight"] = torch.ones(8, 3, 7, 7)
    weight = mae_start(state, TINY).state_dict["patch_embed.proj.weight"]
    assert weight.shape == (8, 3, 8, 8)
    # A flat patch gives what it gave before.
    torch.testing.assert_close(weight.sum(dim=(1, 2, 3)), torch.full((8,), 3.0 * 49))


def test_the_variant_is_found_by_its_width(tmp_path: Path) -> None:
    torch.save({"model": mae_state(768, depth=12, patch=16, grid=14)}, tmp_path / "mae.pth")
    start = load_mae(tmp_path / "mae.pth")
    assert start.config == SAM_VIT_B.image_encoder
    assert start.state_dict["pos_embed"].shape == (1, 64, 64, 768)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ForeignCheckpointError, match="no SAM has an image encoder of width 8"):
        mae_start(mae_state())
    with pytest.raises(
        ForeignCheckpointError, match=r"has width 8 and 3 blocks, .* 8 and 2 blocks"
    ):
        mae_start(mae_state(depth=3), TINY)
    state = mae_state()
    state["pos_embed"] = torch.rand(1, 16, 8)
    with pytest.raises(ForeignCheckpointError, match="a square grid of positions, got 16"):
        mae_start(state, TINY)
    for name, shape, count in (("pos_embed", (17,), 3), ("patch_embed.proj.weight", (8, 192), 4)):
        with pytest.raises(
            ForeignCheckpointError, match=rf"{name} of an MAE checkpoint has {count} axes, got the"
        ):
            mae_start({**mae_state(), name: torch.rand(shape)}, TINY)
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(
        ForeignCheckpointError, match=r"other.pth: expected an MAE checkpoint.*cls_token is missing"
    ):
        load_mae(tmp_path / "other.pth")


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    state = mae_state()
    del state["blocks.1.attn.qkv.weight"], state["blocks.1.norm2.bias"]
    with pytest.raises(
        CheckpointError, match=r"2 of its weights are missing, such as blocks\.1\.attn\.qkv\.weight"
    ):
        mae_start(state, TINY)


def test_weights_of_another_shape_are_refused() -> None:
    state = {**mae_state(), "blocks.0.attn.qkv.weight": torch.rand(24, 9)}
    encoder = replace(TINY, out_dim=16)
    with pytest.raises(
        ForeignCheckpointError, match=r"does not fit the encoder.*attn\.qkv\.weight"
    ):
        start_sam(mae_start(state, encoder), SamConfig(encoder))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = mae_state()
    state["pos_embed"][0, 0, 0] = torch.inf
    torch.save({"model": state}, tmp_path / "mae.pth")
    with pytest.raises(CheckpointError, match=r"mae\.pth holds weights .* infinite \(pos_embed\)"):
        load_mae(tmp_path / "mae.pth", TINY)


def test_whole_numbers_are_no_start() -> None:
    state = mae_state()
    state["blocks.1.mlp.fc2.weight"] = state["blocks.1.mlp.fc2.weight"].to(torch.int8)
    with pytest.raises(CheckpointError, match=r"got blocks.1.mlp.fc2.weight \(torch.int8\): the"):
        mae_start(state, TINY)
