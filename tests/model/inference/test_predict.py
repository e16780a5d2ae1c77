"""Encoding and answering: shapes, sizes, batches, and what does not fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sam_plugins.errors import MemoryLimitError, UnusableImageError
from sam_plugins.model.inference import memory
from sam_plugins.model.inference.compat import SamModel
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_image, encode_rgb, predict_masks
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction, Prompts


@pytest.fixture
def embedding(any_model: Model, picture: npt.NDArray[np.uint8]) -> ImageEmbedding:
    return encode_image(any_model, picture)


def test_an_embedding_knows_its_sizes_and_its_model(
    any_model: Model, embedding: ImageEmbedding
) -> None:
    assert embedding.original_size_hw == (60, 90)
    assert embedding.model_id == any_model.model_id
    height, width = embedding.padded_size_hw
    assert embedding.features.shape == (1, 32, height // 16, width // 16)
    assert embedding.low_res_hw == (height // 4, width // 4)
    assert embedding.nbytes == sum(t.nbytes for t in (embedding.features, *embedding.skips))


def test_an_embedding_moves_as_a_whole(embedding: ImageEmbedding) -> None:
    half = embedding.to(dtype=torch.float16)
    assert half.nbytes * 2 == embedding.nbytes
    assert {t.dtype for t in (half.features, *half.skips)} == {torch.float16}
    assert embedding.features.dtype == torch.float32


def test_an_embedding_kept_in_half_precision_answers_nearly_the_same(
    any_model: Model, embedding: ImageEmbedding
) -> None:
    prompts = Prompts.single_points([[20, 30]])
    exact = predict_masks(any_model, embedding, prompts).low_res_logits
    rounded = predict_masks(any_model, embedding.to(dtype=torch.float16), prompts).low_res_logits
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, exact, atol=0.02 * np.abs(exact).max())


@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1), (None, 1)])
def test_shapes_of_an_answer(
    any_model: Model, embedding: ImageEmbedding, multimask: bool | None, count: int
) -> None:
    prompts = Prompts(boxes_xyxy=[[10, 10, 40, 40], [0, 0, 80, 50]])
    answer = predict_masks(any_model, embedding, prompts, multimask=multimask)
    assert answer.masks.shape == (2, count, 60, 90)
    assert answer.masks.dtype == bool
    assert answer.iou_predictions.shape == (2, count)
    assert answer.iou_predictions.dtype == np.float32
    assert answer.low_res_logits.shape == (2, count, *embedding.low_res_hw)
    assert len(answer) == 2


def test_the_single_mask_is_another_than_the_three(
    any_model: Model, embedding: ImageEmbedding
) -> None:
    prompts = Prompts.single_points([[20, 30]])
    three = predict_masks(any_model, embedding, prompts).low_res_logits
    one = predict_masks(any_model, embedding, prompts, multimask=False).low_res_logits
    assert all(not np.allclose(one[0, 0], each) for each in three[0])


@pytest.mark.parametrize(
    ("prompts", "is_ambiguous"),
    [
        (Prompts.single_points([[20, 30], [50, 20]]), True),
        (Prompts([[[20, 30], [0, 0]]], [[1, -1]]), True),
        (Prompts.for_object([[20, 30]], [0]), False),
        (Prompts.for_object([[20, 30], [50, 20]]), False),
        (Prompts([[[20, 30], [0, 0]], [[50, 20], [9, 9]]], [[1, -1], [1, 0]]), False),
        (Prompts.for_object([[20, 30]], box_xyxy=[5, 5, 60, 50]), False),
        (Prompts.for_object(box_xyxy=[5, 5, 60, 50]), False),
    ],
)
def test_the_prompts_decide_between_three_masks_and_one(
    any_model: Model, embedding: ImageEmbedding, prompts: Prompts, is_ambiguous: bool
) -> None:
    assert prompts.is_ambiguous is is_ambiguous
    by_default = predict_masks(any_model, embedding, prompts, chunk_size=1)
    wanted = predict_masks(any_model, embedding, prompts, multimask=is_ambiguous, chunk_size=1)
    assert by_default.low_res_logits.shape[1] == (3 if is_ambiguous else 1)
    np.testing.assert_array_equal(by_default.low_res_logits, wanted.low_res_logits)
    np.testing.assert_array_equal(by_default.iou_predictions, wanted.iou_predictions)


def test_an_earlier_mask_makes_a_click_clear(any_model: Model, embedding: ImageEmbedding) -> None:
    first = predict_masks(any_model, embedding, Prompts.for_object([[20, 30]]))
    again = Prompts.for_object([[20, 30]], mask_logits=first.best().low_res_logits[0, 0])
    assert not again.is_ambiguous
    assert predict_masks(any_model, embedding, again).low_res_logits.shape[1] == 1


def test_masks_are_the_logits_at_the_size_of_the_picture(
    any_model: Model, embedding: ImageEmbedding
) -> None:
    answer = predict_masks(any_model, embedding, Prompts.single_points([[20, 30]]))
    whole = answer.sizes.enlarge(torch.from_numpy(answer.low_res_logits))[0].numpy()
    clear = np.abs(whole) > 1e-5
    assert ((whole > 0) == answer.masks[0])[clear].all()
    assert (answer.mask(0, 2) == answer.masks[0, 2]).all()


def test_a_batch_equals_its_prompts_one_by_one(any_model: Model, embedding: ImageEmbedding) -> None:
    points = np.array([[5, 5], [30, 20], [80, 50], [40, 40], [10, 55]], np.float32)
    together = predict_masks(any_model, embedding, Prompts.single_points(points), chunk_size=5)
    in_chunks = predict_masks(any_model, embedding, Prompts.single_points(points), chunk_size=2)
    for index, point in enumerate(points):
        alone = predict_masks(any_model, embedding, Prompts.single_points([point]))
        for batch in (together, in_chunks):
            np.testing.assert_allclose(
                batch.low_res_logits[index], alone.low_res_logits[0], rtol=1e-4, atol=1e-4
            )
            np.testing.assert_allclose(
                batch.iou_predictions[index], alone.iou_predictions[0], rtol=1e-4, atol=1e-4
            )


def test_every_kind_of_prompt_changes_the_answer(
    any_model: Model, embedding: ImageEmbedding
) -> None:
    first = predict_masks(any_model, embedding, Prompts.for_object([[20, 30]]))
    others = [
        Prompts.for_object([[20, 30]], [0]),
        Prompts.for_object([[20, 30], [50, 20]], [1, 0]),
        Prompts.for_object([[20, 30]], box_xyxy=[5, 5, 60, 50]),
        Prompts.for_object([[20, 30]], mask_logits=first.low_res_logits[0, 1]),
        Prompts(mask_logits=first.low_res_logits[:, 1:2]),
    ]
    answers = [
        predict_masks(any_model, embedding, prompts, multimask=True).low_res_logits
        for prompts in others
    ]
    for index, answer in enumerate([first.low_res_logits, *answers]):
        assert all(not np.allclose(answer, other) for other in answers[index:])


def test_prompts_are_in_pixels_of_the_picture_whatever_its_size(tiny_vit_model: Model) -> None:
    small = np.kron(np.random.default_rng(1).integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1)))
    large = np.kron(small, np.ones((4, 4, 1)))
    answers = [
        predict_masks(
            tiny_vit_model,
            encode_image(tiny_vit_model, picture.astype(np.uint8)),
            Prompts.single_points([[0.25 * len(picture), 0.5 * len(picture)]]),
        )
        for picture in (small, large)
    ]
    assert answers[1].masks.shape == (1, 3, 256, 256)
    agreement = answers[0].masks == answers[1].masks[..., 2::4, 2::4]
    assert agreement.mean() > 0.95


def test_the_best_mask_is_the_one_with_the_highest_score(
    any_model: Model, embedding: ImageEmbedding
) -> None:
    answer = predict_masks(any_model, embedding, Prompts.single_points([[20, 30], [60, 10]]))
    best = answer.best()
    which = answer.iou_predictions.argmax(axis=1)
    assert best.masks.shape == (2, 1, 60, 90)
    for index in range(2):
        assert (best.masks[index, 0] == answer.masks[index, which[index]]).all()
        assert best.iou_predictions[index, 0] == answer.iou_predictions[index].max()
    with pytest.raises(ValueError, match="one index for each of 2 objects"):
        answer.choose([0])


def test_another_models_embedding_is_refused(
    tiny_model: Model, tiny_vit_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    embedding = encode_image(tiny_model, picture)
    with pytest.raises(ValueError, match=r"tiny-vit-0+, got one of tiny-0+; encode the picture"):
        predict_masks(tiny_vit_model, embedding, Prompts.single_points([[1, 1]]))


def test_prompts_that_do_not_fit_the_embedding_are_refused(
    any_model: Model, embedding: ImageEmbedding
) -> None:
    with pytest.raises(ValueError, match="points_xy must lie within the picture"):
        predict_masks(any_model, embedding, Prompts.single_points([[30, 70]]))
    with pytest.raises(ValueError, match="boxes_xyxy must overlap the picture"):
        predict_masks(any_model, embedding, Prompts(boxes_xyxy=[[200, 0, 300, 50]]))
    with pytest.raises(ValueError, match=r"mask_logits must be of shape .*got \(1, 1, 8, 8\)"):
        predict_masks(any_model, embedding, Prompts(mask_logits=np.zeros((1, 1, 8, 8))))
    with pytest.raises(ValueError, match="no text projection"):
        predict_masks(any_model, embedding, Prompts(text_embeddings=np.zeros((1, 5))))
    with pytest.raises(ValueError, match="chunk_size must be 1 or more, got 0"):
        predict_masks(any_model, embedding, Prompts.single_points([[1, 1]]), chunk_size=0)


def test_arguments_of_other_types_are_refused_where_they_enter(
    tiny_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    ask: Any = predict_masks
    embedding = encode_image(tiny_model, picture)
    prompts = Prompts.single_points([[1, 1]])
    for arguments, message in (
        (("default", embedding, prompts), "model must be of type Model, got str; load it with"),
        ((tiny_model, picture, prompts), "embedding must be of type ImageEmbedding, got ndarray;"),
        ((tiny_model, embedding, [[1, 1]]), "prompts must be of type Prompts, got list; make them"),
    ):
        with pytest.raises(TypeError, match=message):
            ask(*arguments)
    with pytest.raises(TypeError, match=r"chunk_size must be a whole number, got 2\.5"):
        ask(tiny_model, embedding, prompts, chunk_size=2.5)
    for encode in (encode_image, encode_rgb):
        for wrong in ("default", picture):
            with pytest.raises(
                TypeError, match=r"model must be of type Model, got .*pass it first"
            ):
                encode(wrong, picture)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rgb must be of type ndarray, got list; to_rgb makes it"):
        encode_rgb(tiny_model, picture.tolist())


@pytest.mark.parametrize(
    ("prompts", "masks"),
    [
        (Prompts(points_xy=np.zeros((0, 1, 2), np.float32)), 3),
        (Prompts(boxes_xyxy=np.zeros((0, 4), np.float32)), 1),
        (Prompts.single_points([[20, 30], [4, 5]])[np.array([False, False])], 3),
    ],
)
def test_no_objects_have_no_masks(
    any_model: Model, embedding: ImageEmbedding, prompts: Prompts, masks: int
) -> None:
    answer = predict_masks(any_model, embedding, prompts)
    one = predict_masks(any_model, embedding, Prompts.single_points([[20, 30]]))
    assert answer.low_res_logits.shape == (0, masks, *one.low_res_logits.shape[2:])
    assert answer.iou_predictions.shape == (0, masks)
    assert answer.masks.shape == (0, masks, 60, 90)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5)), "expected a picture with pixels"),
        (np.zeros(5), "expected one picture of shape"),
        (np.full((5, 5), np.nan), "at least one finite pixel"),
    ],
)
def test_what_is_no_picture_is_refused(
    tiny_model: Model, image: npt.NDArray[np.floating], message: str
) -> None:
    with pytest.raises(UnusableImageError, match=message):
        encode_image(tiny_model, image)


@pytest.mark.parametrize(
    "image",
    [
        np.arange(2000, dtype=np.uint16).reshape(40, 50),
        np.linspace(-1, 1, 6000, dtype=np.float32).reshape(3, 40, 50),
        np.eye(30, dtype=bool),
        np.full((1, 1), 7, np.uint8),
        np.zeros((3, 400), np.uint8),
    ],
)
def test_any_picture_can_be_asked(
    tiny_model: Model, tiny_vit_model: Model, image: npt.NDArray[np.generic]
) -> None:
    for model in (tiny_model, tiny_vit_model):
        embedding = encode_image(model, image)
        answer = predict_masks(model, embedding, Prompts.single_points([[0, 0]]))
        assert answer.masks.shape == (1, 3, *embedding.original_size_hw)
        assert np.isfinite(answer.low_res_logits).all()


def test_channels_and_limits_decide_what_the_model_sees(tiny_model: Model) -> None:
    image = np.random.default_rng(2).integers(0, 4096, (5, 40, 50), dtype=np.uint16)
    by_name = encode_image(tiny_model, image, channels={"red": 4, "green": 1}, limits=(0, 4095))
    rgb = np.zeros((40, 50, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.rint(image[4] / 4095 * 255), np.rint(image[1] / 4095 * 255)
    as_seen = encode_image(tiny_model, rgb, limits=(0, 255))
    assert torch.equal(by_name.features, as_seen.features)


@pytest.mark.parametrize("rgb", [np.zeros(5, np.uint8), np.zeros((4, 5, 4), np.uint8), np.eye(3)])
def test_what_is_no_rgb_picture_is_refused(tiny_model: Model, rgb: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"rgb must be of shape \(H, W, 3\) and type uint8, got"):
        encode_rgb(tiny_model, rgb)


@pytest.mark.parametrize("multimask", ["no", 1, 0.0, []])
def test_how_many_masks_is_true_or_false(
    any_model: Model, embedding: ImageEmbedding, multimask: Any
) -> None:
    prompts = Prompts.single_points([[3, 4]])
    with pytest.raises(TypeError, match=r"^multimask must be True for three masks, .*, got "):
        predict_masks(any_model, embedding, prompts, multimask=multimask)
    assert predict_masks(any_model, embedding, prompts, multimask=np.True_).masks.shape[1] == 3  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------- memory


def test_masks_that_cannot_fit_are_refused_with_what_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 8_000_000)
    answer = MaskPrediction(
        np.zeros((100, 3, 8, 8), np.float32), np.zeros((100, 3), np.float32),
        (1000, 1000), (32, 32), (32, 32),
    )  # fmt: skip
    with pytest.raises(
        MemoryLimitError, match=r"100 objects would need 0.3 GB .*8.0 MB are free; masks of 1 obj"
    ):
        _ = answer.masks
    assert answer.mask(7).shape == (1000, 1000)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_running_out_of_memory_says_what_would_fit(
    tiny_model: Model,
    picture: npt.NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    embedding = encode_image(tiny_model, picture)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(tiny_model.network, "encode", fail)
    monkeypatch.setattr(tiny_model.network, "decode", fail)
    # No smaller one is known: the small models of the tests are no larger than the shipped one.
    with pytest.raises(
        MemoryLimitError,
        match=r"^encoding a picture of 60 x 90 pixels ran out of memory.*; the model's weights are "
        r"\d+\.\d MB, and its work on a picture of this size several times that: reduce it to "
        r"\d+ x \d+ pixels, or find its objects by tiles with segment_large$",
    ):
        encode_image(tiny_model, picture)
    with pytest.raises(MemoryLimitError, match=r"decoding 8 prompts at once .*chunk_size=2 needs"):
        predict_masks(tiny_model, embedding, Prompts.single_points([[1, 1]] * 8), chunk_size=8)
    with pytest.raises(
        MemoryLimitError,
        match=r"^decoding 1 prompts at once ran out of memory.*; reduce the picture to "
        r"\d+ x \d+ pixels, or close other programs$",
    ):
        predict_masks(tiny_model, embedding, Prompts.single_points([[1, 1]]))


def test_of_a_large_model_a_smaller_one_is_named(
    tiny_model: Model, picture: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tiny_model.network, "encode", fail)
    monkeypatch.setattr(memory, "_SMALLEST", 10)
    message = r"several times that: use a smaller model, such as 'default', or reduce it to \d"
    with pytest.raises(MemoryLimitError, match=message):
        encode_image(tiny_model, picture)


def test_the_shipped_model_does_not_recommend_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("default")
    picture = np.zeros((100, 3000), np.uint8)
    picture[10] = 200
    embedding = encode_image(model, picture[:, :300])

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(model.network, "encode", fail)
    monkeypatch.setattr(model.network, "decode", fail)
    free = r"( \([\d.]+ [GM]B are free\))?"
    with pytest.raises(
        MemoryLimitError,
        match=rf"^encoding a picture of 100 x 3000 pixels ran out of memory{free}; the model's "
        r"weights are [\d.]+ MB, and its work on a picture of this size several times that: reduce "
        r"it to 17 x 512 pixels, or find its objects by tiles with segment_large$",
    ):
        encode_image(model, picture)
    with pytest.raises(
        MemoryLimitError,
        match=rf"^decoding 1 prompts at once ran out of memory{free}; reduce the picture to "
        r"50 x 150 pixels, or close other programs$",
    ):
        predict_masks(model, embedding, Prompts.single_points([[1, 1]]))
    compat = SamModel(model)
    monkeypatch.setattr(compat.network, "encode", fail)
    for count, remedy in (
        (1, r"reduce the picture to 512 x 512 pixels, or close other programs"),
        (2, r"encode fewer pictures at a time"),
    ):
        with pytest.raises(
            MemoryLimitError,
            match=rf"^encoding {count} pictures of 1024 x 1024 pixels ran out of memory{free}; "
            rf"{remedy}$",
        ):
            compat.encode(torch.zeros(count, 3, 1024, 1024))


def test_other_errors_pass_as_they_are(
    tiny_model: Model, picture: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(tiny_model.network, "encode", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        encode_image(tiny_model, picture)


def test_a_batch_that_does_not_fit_is_halved(
    tiny_model: Model,
    picture: npt.NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    embedding = encode_image(tiny_model, picture)
    prompts = Prompts.single_points([[x, 20] for x in range(10, 60, 10)])
    expected = predict_masks(tiny_model, embedding, prompts)
    network, sizes = tiny_model.network, []
    real = network.decode

    def decode(image: Any, *, points_xy: torch.Tensor, **more: Any) -> Any:
        sizes.append(len(points_xy))
        if len(points_xy) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(image, points_xy=points_xy, **more)

    monkeypatch.setattr(network, "decode", decode)
    answer = predict_masks(tiny_model, embedding, prompts)
    assert sizes == [4, 2, 1, 1, 1, 1, 1]
    assert "decoding 1 prompts at once, memory ran out for more" in caplog.text
    np.testing.assert_allclose(answer.low_res_logits, expected.low_res_logits, atol=1e-4)
