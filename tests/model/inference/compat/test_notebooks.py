"""The calls of segment_anything's three example notebooks, as scripts; only the import differs.

The scripts do what ``predictor_example``, ``automatic_mask_generator_example`` and
``onnx_model_example`` do, in their order, with their arguments; pictures are those of scikit-image
and prompts lie on their objects. What differs in the last: PyTorch is told to use its older
exporter, as it did when the notebook was written, and the picture of the trace has the size of the
one that is asked about, which segment_anything 1.0 keeps in its graph.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from tests.model.inference.compat.small_sam import assert_same, make_selective, small_official
from tests.model.inference.compat.test_mask_generator import compare

PREDICTOR = """
import cv2
import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.utils.transforms import ResizeLongestSide

image = cv2.cvtColor(cv2.imread(first_picture), cv2.COLOR_BGR2RGB)
sam = sam_model_registry[model_type](checkpoint=sam_checkpoint)
sam.to(device=device)
predictor = SamPredictor(sam)
predictor.set_image(image)

# One click, which may mean a part or a whole.
input_point = np.array([[220, 100]])
input_label = np.array([1])
masks, scores, logits = predictor.predict(
    point_coords=input_point, point_labels=input_label, multimask_output=True
)
results.append((masks, scores, logits))

# Two clicks and the best of the masks before, for a single mask.
input_point = np.array([[220, 100], [160, 180]])
mask_input = logits[np.argmax(scores), :, :]
for input_label in (np.array([1, 1]), np.array([1, 0])):
    results.append(
        predictor.predict(
            point_coords=input_point,
            point_labels=input_label,
            mask_input=mask_input[None, :, :],
            multimask_output=False,
        )
    )

# A box; a box and a click beside the object.
input_box = np.array([150, 30, 280, 190])
results.append(
    predictor.predict(
        point_coords=None, point_labels=None, box=input_box[None, :], multimask_output=False
    )
)
results.append(
    predictor.predict(
        point_coords=np.array([[200, 120]]),
        point_labels=np.array([0]),
        box=input_box,
        multimask_output=False,
    )
)

# Many boxes at once.
input_boxes = torch.tensor(
    [[150, 30, 280, 190], [20, 10, 120, 100], [100, 80, 240, 195], [10, 90, 60, 190]],
    device=predictor.device,
)
transformed_boxes = predictor.transform.apply_boxes_torch(input_boxes, image.shape[:2])
masks, scores, logits = predictor.predict_torch(
    point_coords=None, point_labels=None, boxes=transformed_boxes, multimask_output=False
)
assert masks.shape[:2] == (4, 1)
results.append((masks.cpu().numpy(), scores, logits))

# Several pictures from pixels to masks.
image1 = image
image1_boxes = torch.tensor([[150, 30, 280, 190], [20, 10, 120, 100]], device=sam.device)
image2 = cv2.cvtColor(cv2.imread(second_picture), cv2.COLOR_BGR2RGB)
image2_boxes = torch.tensor([[30, 50, 200, 300], [5, 200, 120, 390]], device=sam.device)
resize_transform = ResizeLongestSide(sam.image_encoder.img_size)


def prepare_image(image, transform, device):
    image = transform.apply_image(image)
    image = torch.as_tensor(image, device=device.device)
    return image.permute(2, 0, 1).contiguous()


batched_input = [
    {
        "image": prepare_image(image1, resize_transform, sam),
        "boxes": resize_transform.apply_boxes_torch(image1_boxes, image1.shape[:2]),
        "original_size": image1.shape[:2],
    },
    {
        "image": prepare_image(image2, resize_transform, sam),
        "boxes": resize_transform.apply_boxes_torch(image2_boxes, image2.shape[:2]),
        "original_size": image2.shape[:2],
    },
]
batched_output = sam(batched_input, multimask_output=False)
results.extend(batched_output)
"""

MASK_GENERATOR = """
import cv2
import numpy as np
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry

image = cv2.cvtColor(cv2.imread(first_picture), cv2.COLOR_BGR2RGB)
sam = sam_model_registry[model_type](checkpoint=sam_checkpoint)
sam.to(device=device)
mask_generator = SamAutomaticMaskGenerator(sam, **fewer_points)
masks = mask_generator.generate(image)
results.append(masks)


def show_anns(anns):
    # What the notebook draws: the largest first, each in a colour of its own.
    sorted_anns = sorted(anns, key=(lambda x: x["area"]), reverse=True)
    canvas = np.zeros((*sorted_anns[0]["segmentation"].shape, 4))
    for index, ann in enumerate(sorted_anns):
        canvas[ann["segmentation"]] = [index + 1, 0, 0, 0.35]
    return canvas


show_anns(masks)

mask_generator_2 = SamAutomaticMaskGenerator(
    model=sam,
    points_per_side=fewer_points.get("points_per_side", 32),
    pred_iou_thresh=0.86,
    stability_score_thresh=0.92,
    crop_n_layers=1,
    crop_n_points_downscale_factor=2,
    min_mask_region_area=100,
)
masks2 = mask_generator_2.generate(image)
show_anns(masks2)
results.append(masks2)
"""

ONNX_MODEL = """
import warnings

import cv2
import numpy as np
import onnxruntime
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.utils.onnx import SamOnnxModel

image = cv2.cvtColor(cv2.imread(first_picture), cv2.COLOR_BGR2RGB)
sam = sam_model_registry[model_type](checkpoint=sam_checkpoint)
onnx_model = SamOnnxModel(sam, return_single_mask=True)
dynamic_axes = {"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}}
embed_dim = sam.prompt_encoder.embed_dim
embed_size = sam.prompt_encoder.image_embedding_size
mask_input_size = [4 * x for x in embed_size]
dummy_inputs = {
    "image_embeddings": torch.randn(1, embed_dim, *embed_size, dtype=torch.float),
    "point_coords": torch.randint(low=0, high=1024, size=(1, 5, 2), dtype=torch.float),
    "point_labels": torch.randint(low=0, high=4, size=(1, 5), dtype=torch.float),
    "mask_input": torch.randn(1, 1, *mask_input_size, dtype=torch.float),
    "has_mask_input": torch.tensor([1], dtype=torch.float),
    "orig_im_size": torch.tensor(image.shape[:2], dtype=torch.float),
}
output_names = ["masks", "iou_predictions", "low_res_masks"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    with open(onnx_model_path, "wb") as f:
        torch.onnx.export(
            onnx_model,
            tuple(dummy_inputs.values()),
            f,
            export_params=True,
            verbose=False,
            opset_version=17,
            do_constant_folding=True,
            input_names=list(dummy_inputs.keys()),
            output_names=output_names,
            dynamic_axes=dynamic_axes,
            dynamo=False,
        )
ort_session = onnxruntime.InferenceSession(onnx_model_path)
sam.to(device=device)
predictor = SamPredictor(sam)
predictor.set_image(image)
image_embedding = predictor.get_image_embedding().cpu().numpy()


def ask(points, labels, mask_input=None):
    # Coordinates are transformed, and a padding point stands in where there is no box.
    onnx_coord = predictor.transform.apply_coords(points[None], image.shape[:2])
    return ort_session.run(
        None,
        {
            "image_embeddings": image_embedding,
            "point_coords": onnx_coord.astype(np.float32),
            "point_labels": labels[None].astype(np.float32),
            "mask_input": np.zeros((1, 1, *mask_input_size), np.float32)
            if mask_input is None
            else mask_input,
            "has_mask_input": np.array([mask_input is not None], np.float32),
            "orig_im_size": np.array(image.shape[:2], np.float32),
        },
    )


padding = np.array([[0.0, 0.0]])
masks, scores, logits = ask(
    np.concatenate([np.array([[220, 100]]), padding]), np.array([1, -1])
)
masks = masks > predictor.model.mask_threshold
results.append((masks, scores, logits))
input_point = np.concatenate([np.array([[220, 100], [160, 180]]), padding])
for input_label in (np.array([1, 1, -1]), np.array([1, 0, -1])):
    results.append(ask(input_point, input_label, logits))
# A box is two points more, and a click beside the object.
box_and_point = np.array([[200, 120], [150, 30], [280, 190]])
results.append(ask(box_and_point, np.array([0, 2, 3])))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pictures")
    named = {
        "first_picture": skimage.data.astronaut()[:200, 100:390],
        "second_picture": skimage.data.coffee()[:400, 150:390],
    }
    paths = {}
    for name, picture in named.items():
        paths[name] = str(folder / f"{name}.png")
        cv2.imwrite(paths[name], picture[..., ::-1])
    return paths


def run_both(script: str, **given: Any) -> tuple[list[Any], list[Any]]:
    """Run a script with our import and with theirs."""
    ours = script.replace("segment_anything.utils.transforms", "sam_plugins")
    ours = ours.replace("segment_anything.utils.onnx", "sam_plugins")
    ours = ours.replace("segment_anything", "sam_plugins")
    assert ours.count("sam_plugins") == script.count("segment_anything")
    answers = []
    for text in (ours, script):
        results: list[Any] = []
        exec(compile(text, "script", "exec"), {"results": results, "device": "cpu"} | given)
        answers.append(results)
    return answers[0], answers[1]


def as_default(official: ModuleType, sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let "default" be a small model in their registry too; in ours the file says so."""

    def build(checkpoint: str) -> Any:
        sam.load_state_dict(torch.load(checkpoint))
        return sam

    monkeypatch.setitem(official.sam_model_registry, "default", build)


@pytest.fixture
def small(
    official: ModuleType, theirs: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The arguments of a script for the small model."""
    as_default(official, theirs, monkeypatch)
    return {"model_type": "default", "sam_checkpoint": str(checkpoint)}


def test_predictor_example(small: dict[str, str], pictures: dict[str, str]) -> None:
    ours, theirs = run_both(PREDICTOR, **small, **pictures)
    assert len(ours) == 8
    assert all(np.any(np.asarray(r[0])) for r in ours[:6])
    assert_same(ours, theirs)


def test_onnx_model_example(
    small: dict[str, str], pictures: dict[str, str], tmp_path: Path
) -> None:
    ours, theirs = run_both(
        ONNX_MODEL, **small, **pictures, onnx_model_path=str(tmp_path / "sam_onnx_example.onnx")
    )
    assert len(ours) == 4
    assert any(np.any(mask) for mask in ours[0][0])
    assert_same(ours, theirs)


def test_mask_generator_example(small: dict[str, str], pictures: dict[str, str]) -> None:
    ours, theirs = run_both(
        MASK_GENERATOR, **small, **pictures, fewer_points={"points_per_side": 8}
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine) >= 3
        compare(mine, other)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mask_generator_example_with_all_points(
    small: dict[str, str], pictures: dict[str, str]
) -> None:
    ours, theirs = run_both(MASK_GENERATOR, **small, **pictures, fewer_points={})
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine) >= 3
        compare(mine, other)


@pytest.fixture(scope="module")
def vit_b(official: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A file as the official one of ViT-B, with weights of ours."""
    sam = official.sam_model_registry["vit_b"]()
    make_selective(sam, seed=0)
    path = tmp_path_factory.mktemp("weights") / "sam_vit_b.pth"
    torch.save(sam.state_dict(), path)
    return {"model_type": "vit_b", "sam_checkpoint": str(path)}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_predictor_example_with_vit_b(vit_b: dict[str, str], pictures: dict[str, str]) -> None:
    ours, theirs = run_both(PREDICTOR, **vit_b, **pictures)
    assert_same(ours, theirs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mask_generator_example_with_an_input_of_full_size(
    official: ModuleType,
    pictures: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Low-resolution masks of 256 x 256, as the published models have them."""
    sam = small_official(official, side=1024, seed=5)
    path = tmp_path / "large_input.pth"
    torch.save(sam.state_dict(), path)
    as_default(official, sam, monkeypatch)
    ours, theirs = run_both(
        MASK_GENERATOR,
        model_type="default",
        sam_checkpoint=str(path),
        **pictures,
        fewer_points={"points_per_side": 7},
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine) >= 3
        compare(mine, other)
