"""Objects by words, in two ways.

A model that was trained with texts takes a phrase as a prompt, as the Segment Anything paper does
(Kirillov et al. 2023, section 7.5): :func:`text_prompts`. With any other model, CLIP ranks the
masks of automatic segmentation: :func:`find_by_text`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.automatic import (
    Proposals,
    propose,
    put_together,
    require_instance_decoder,
    segmenting_memory,
)
from sam_plugins.model.inference.candidates import Progress, chain_of
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.clip import TextImageEncoder, checked_phrases
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.mask_crops import crop_object
from sam_plugins.model.inference.postprocess import clean_mask
from sam_plugins.model.inference.predict import check_model, encode_rgb
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.inference.segment_options import AUTO, Mode, SegmentOptions, usual_options
from sam_plugins.model.inference.suppression import suppress
from sam_plugins.model.inference.types import ImageEmbedding, Prompts, Segmentation

FloatArray = npt.NDArray[np.float32]

TEMPLATES = ("{}", "a photo of {}.")
"""Sentences around a phrase, whose vectors are averaged: CLIP was trained on captions, and answers
to sentences better than to bare words (Radford et al. 2021, section 3.1.4)."""

NEGATIVES = ("background", "texture", "wall", "ground", "sky", "something else")
"""What masks are that no phrase means. A softmax needs something to lose against."""

PASSPORT_KEY = "text_encoder"
"""Under which the passport of a model that was trained with texts names its encoder."""

_AUTO_TEXT = replace(AUTO, asks_with="box", masks=replace(AUTO.masks, best_per_point=False))


@dataclass(frozen=True)
class TextOptions:
    """How masks are ranked by words.

    Parameters
    ----------
    min_probability : float
        Least share of a phrase in the softmax over all phrases and negatives.
    masked_weight : float
        0 to 1: how much the crop without its surroundings counts beside the crop with them. Without
        them CLIP cannot look at the neighbour, with them it knows what it is looking at.
    scale : float
        Side of the crop over the longer side of the mask's box.
    max_iou : float
        Masks with a larger IoU are one before they are ranked.
    templates : tuple of str
        Sentences with ``{}`` where the phrase goes.
    segmentation : SegmentOptions, optional
        How masks are proposed; by default as suits the mode, with parts and wholes.
    """

    min_probability: float = 0.5
    masked_weight: float = 0.5
    scale: float = 1.2
    max_iou: float = 0.8
    templates: tuple[str, ...] = TEMPLATES
    segmentation: SegmentOptions | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("min_probability", "masked_weight", "max_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not self.scale >= 1:
            raise ValueError(f"scale must be 1 or more, got {self.scale}")
        if not self.templates or any("{}" not in template for template in self.templates):
            raise ValueError(
                f"templates must be sentences with {{}} for the phrase, got {self.templates!r}"
            )


@dataclass(frozen=True, eq=False)
class TextMatches:
    """Objects that phrases name.

    Parameters
    ----------
    segmentation : Segmentation
        ``scores`` are the probabilities of the phrases.
    phrases : tuple of str
        What was asked for.
    phrase_index : ndarray of shape (n,), int64
        Which phrase names each object: label ``i + 1`` is ``phrases[phrase_index[i]]``.
    similarities : ndarray of shape (n,), float32
        Cosine of each object with its phrase.
    """

    segmentation: Segmentation
    phrases: tuple[str, ...]
    phrase_index: npt.NDArray[np.int64] = field(repr=False)
    similarities: FloatArray = field(repr=False)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.segmentation)

    def mask_of(self, phrase: int) -> npt.NDArray[np.bool_]:
        """Return all pixels of the objects that a phrase names, of shape (H, W).

        Parameters
        ----------
        phrase : int
            Index of the phrase.
        """
        is_named = np.concatenate([[False], self.phrase_index == phrase])
        named: npt.NDArray[np.bool_] = is_named[self.segmentation.labels]
        return named


def text_dim(model: Model) -> int | None:
    """Return the length of the text vectors that a model takes, None where it takes none."""
    return model.config.prompt_encoder.text_dim


def require_text_slot(model: Model, encoder: TextImageEncoder) -> None:
    """Refuse a model that does not take the texts of an encoder as prompts.

    Raises
    ------
    UnsuitableModelError
        With what to do instead.
    """
    dim = text_dim(model)
    if dim is None:
        raise UnsuitableModelError(
            f"a text as a prompt needs a model that was trained with texts, which {model.model_id} "
            "was not; rank its masks by words with find_by_text, ask with a point or a box, or "
            "train it with texts"
        )
    trained_with = model.passport.extra.get(PASSPORT_KEY) if model.passport else None
    if dim != encoder.dim or trained_with not in {None, encoder.encoder_id}:
        known = f"{trained_with!r}, of " if trained_with else "one with "
        raise UnsuitableModelError(
            f"{model.model_id} must be asked with the text encoder that it was trained with, "
            f"{known}{dim} values, got {encoder.encoder_id!r}, of {encoder.dim}; load that CLIP"
        )


def embed_phrases(
    encoder: TextImageEncoder, phrases: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> FloatArray:
    """Return one vector for each phrase, the mean over some sentences around it.

    Parameters
    ----------
    encoder : TextImageEncoder
        Such as :func:`~sam_plugins.load_clip` returns.
    phrases : sequence of str
    templates : sequence of str

    Returns
    -------
    ndarray of shape (n, E), float32
        Of length 1.

    Raises
    ------
    ValueError
        If there is no phrase, or one is empty.
    """
    checked_phrases(phrases)
    sentences = [template.format(phrase.strip()) for phrase in phrases for template in templates]
    vectors = encoder.embed_texts(sentences).reshape(len(phrases), len(templates), -1).mean(axis=1)
    unit: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit.astype(np.float32, copy=False)


def text_prompts(
    model: Model,
    encoder: TextImageEncoder,
    phrases: Sequence[str],
    *,
    points_xy: npt.ArrayLike | None = None,
    point_labels: npt.ArrayLike | None = None,
    templates: Sequence[str] = TEMPLATES,
) -> Prompts:
    """Return phrases as prompts for a model that was trained with texts, one object for each.

    Parameters
    ----------
    model : Model
    encoder : TextImageEncoder
        The one that the model was trained with.
    phrases : sequence of N str
    points_xy, point_labels : array_like of shape (N, K, 2) and (N, K), optional
        Points that help where the words alone do not do.
    templates : sequence of str
        Sentences around a phrase.

    Returns
    -------
    Prompts
        Of N objects, for :func:`~sam_plugins.predict_masks`.

    Raises
    ------
    UnsuitableModelError
        If the model takes no texts, or those of another encoder.
    ValueError
        If there is no phrase, or one is empty, or the points are not of N objects.
    """
    require_text_slot(model, encoder)
    return Prompts(
        points_xy, point_labels, text_embeddings=embed_phrases(encoder, phrases, templates)
    )


def find_by_text(
    model: Model,
    image: npt.ArrayLike,
    encoder: TextImageEncoder,
    phrases: Sequence[str],
    *,
    negatives: Sequence[str] = NEGATIVES,
    mode: Mode | str = "auto",
    options: TextOptions | None = None,
    embedding: ImageEmbedding | None = None,
    progress: Progress | None = None,
) -> TextMatches:
    """Find the objects that phrases name, with any model: CLIP ranks its masks.

    CLIP looks at the crop of each mask, with and without what lies beside the object. A mask
    belongs to a phrase where that phrase has the largest share, and a large enough one, in the
    softmax over all phrases and negatives.

    Parameters
    ----------
    model : Model
        From :func:`~sam_plugins.load_model`; it proposes masks.
    image : array_like of shape (H, W), (H, W, C) or (C, H, W)
        The picture, as for :func:`~sam_plugins.segment`.
    encoder : TextImageEncoder
        From :func:`~sam_plugins.load_clip`.
    phrases : sequence of str
        What to find, such as ``["a cat", "a dog"]``.
    negatives : sequence of str
        What else the masks may be: name what is in the picture and not meant.
    mode : {"auto", "grid"}
        As for :func:`~sam_plugins.segment`.
    options : TextOptions, optional
    embedding : ImageEmbedding, optional
        Of the picture, which saves the time to encode it.
    progress : callable, optional
        Called often, with the steps done and the steps in all.

    Returns
    -------
    TextMatches

    Raises
    ------
    ValueError
        If there is no phrase, one is empty or also a negative, there is no negative and only one
        phrase, or ``mode`` is unknown.
    UnsuitableModelError
        If the model has no instance decoder and ``mode`` is "auto".
    UnusableImageError
        If the array is no picture.
    MemoryLimitError
        If memory runs out.
    TypeError
        If an argument is of another type.
    """
    chosen = options or TextOptions()
    require_type("options", chosen, TextOptions, "leave it out for the defaults")
    _check_rivals(phrases, negatives)
    if mode == "auto":
        require_instance_decoder(model)
    vectors = embed_phrases(encoder, [*phrases, *negatives], chosen.templates)
    rgb = to_rgb(image)
    embedding = encode_rgb(model, rgb) if embedding is None else embedding
    check_model(model, embedding)
    if embedding.original_size_hw != rgb.shape[:2]:
        raise ValueError(
            f"embedding must be of this picture, of size {rgb.shape[:2]}, got one of "
            f"{embedding.original_size_hw}"
        )
    how = chosen.segmentation or (_AUTO_TEXT if mode == "auto" else usual_options(model, mode))
    with segmenting_memory(embedding, mode):
        proposals = propose(model, embedding, mode=mode, options=how, progress=progress)
        found = proposals.found
        kept = suppress(found.packed, found.scores, max_iou=chosen.max_iou)
        seen = _look(rgb, embedding, proposals, kept, encoder, chosen)
        cosines = seen @ vectors.T
        shares = _softmax(encoder.logit_scale * cosines)[:, : len(phrases)]
        best = shares.argmax(axis=1)
        each = np.arange(len(best))
        is_named = shares[each, best] >= chosen.min_probability
        which = kept[is_named]
        probabilities = shares[each, best][is_named]
        # Of a part and a whole that the words fit alike, the mask that the model trusts more.
        ranks = probabilities * np.clip(found.scores[which], 0, 1)
        arranged = put_together(proposals.choose(which, ranks), embedding, how, progress=progress)
    sources = arranged.sources
    return TextMatches(
        replace(arranged.segmentation, scores=probabilities[sources].astype(np.float32)),
        tuple(phrases),
        best[is_named][sources],
        cosines[each, best][is_named][sources],
    )


def _check_rivals(phrases: Sequence[str], negatives: Sequence[str]) -> None:
    """Refuse phrases that nothing competes with, and those that compete with themselves."""
    checked_phrases(phrases)
    if len(phrases) + len(negatives) < 2:
        raise ValueError(
            "there must be something to tell the phrase from: give negatives, or several phrases"
        )
    if negatives:
        checked_phrases(negatives)
    said = [text.strip().lower() for text in (*phrases, *negatives)]
    twice = sorted({text for text in said if said.count(text) > 1})
    if twice:
        raise ValueError(f"phrases and negatives must all differ, got {twice[0]!r} twice")


def _look(
    rgb: npt.NDArray[np.uint8],
    embedding: ImageEmbedding,
    proposals: Proposals,
    which: npt.NDArray[np.int64],
    encoder: TextImageEncoder,
    options: TextOptions,
) -> FloatArray:
    """Return what CLIP sees of each mask, (n, E)."""
    sizes = chain_of(embedding)
    crops: dict[bool, list[npt.NDArray[np.uint8]]] = {False: [], True: []}
    for index in which.tolist():
        window, mask = sizes.draw_cut(proposals.found.cuts[index])
        if not mask.any():  # no pixel of the picture is nearest to its few cells
            mask = np.ones(mask.shape, bool)
        whole = clean_mask(mask, hole_share=0.1, island_share=0.1)
        for is_masked, of_kind in crops.items():
            of_kind.append(
                crop_object(
                    rgb,
                    WindowMask(window, whole),
                    encoder.crop_size,
                    scale=options.scale,
                    is_masked=is_masked,
                    fill=encoder.fill,
                )
            )
    weight = np.float32(options.masked_weight)
    seen = np.zeros((len(which), encoder.dim), np.float32)
    if weight > 0:
        seen += weight * encoder.embed_crops(crops[True])
    if weight < 1:
        seen += (1 - weight) * encoder.embed_crops(crops[False])
    unit: FloatArray = seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-12)
    return unit


def _softmax(logits: FloatArray) -> FloatArray:
    """Return shares that sum to 1 along the last axis."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return shares
