"""The loop of labelling and learning, played with ground truth, and what it costs people.

Pictures with known objects are a pool that nobody labelled. In every round some of them are
labelled by a simulated person (:mod:`~.simulated_annotator`) with the model's proposals, the model
learns from all that are labelled so far, and what the next picture would cost is measured on other
pictures, always the same. Three ways of going on are compared: pictures chosen by expected gain,
pictures in random order, and a model that never learns.

Everything is what a project does: labels go through a label store, training through
:func:`~.fine_tuning.fine_tune`, and the loop goes on only with weights that ``promote`` would take.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.fine_tuning import FineTuningOptions, fine_tune
from sam_plugins.model.engine.label_store import (
    ImageSource,
    LabelledObject,
    LabelStore,
    PromptEvent,
    ReviewState,
    Stage,
)
from sam_plugins.model.engine.proposals import MIN_SCORE, calibrated_min_score, propose
from sam_plugins.model.engine.selection import (
    GainWeights,
    Signals,
    choose_next,
    measure_signals,
    pooled_embedding,
    shows_nothing,
)
from sam_plugins.model.engine.simulated_annotator import (
    AnnotatedPicture,
    AnnotatorOptions,
    Outcome,
    annotate,
)
from sam_plugins.model.engine.simulated_pictures import SimulatedPictures
from sam_plugins.model.evaluation.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from sam_plugins.model.evaluation.click_curve import Dialogue
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_image, encode_rgb
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.large.whole import encoding_once
from sam_plugins.model.weights.comparison import LEAST_PICTURES

Report = Callable[[str], None]


class Strategy(StrEnum):
    """How the loop goes on."""

    CHOSEN = "chosen order"
    """Pictures by expected gain; the model learns."""
    RANDOM = "random order"
    """Pictures by chance; the model learns."""
    NO_LEARNING = "no retraining"
    """Pictures by chance; the model stays as it is."""


class Gate(StrEnum):
    """Which weights the loop goes on with."""

    PROMOTED = "promoted"
    """Those that are better on the held-out pictures beyond what others of their kind might give,
    as ``promote`` asks."""
    BETTER = "better"
    """Those that are better on average."""


@dataclass(frozen=True)
class SimulationOptions:
    """How the loop is played.

    Parameters
    ----------
    rounds : int
        Of labelling and learning.
    pictures_per_round : int
    training : FineTuningOptions
        Of each round.
    annotator : AnnotatorOptions
    min_score : float
        From which a model's objects are proposed at first; what the person judges of it raises
        this (:func:`~.proposals.calibrated_min_score`), also where the model does not learn.
    weights : GainWeights
        Of the chosen order.
    gate : Gate
        Which weights a round goes on with; the others are thrown away.
    strategies : tuple of Strategy
    seed : int
        Of the random order.
    """

    rounds: int = 4
    pictures_per_round: int = 4
    training: FineTuningOptions = field(
        default_factory=lambda: FineTuningOptions(steps=40, rounds=2, max_objects=10)
    )
    annotator: AnnotatorOptions = field(default_factory=AnnotatorOptions)
    min_score: float = MIN_SCORE
    weights: GainWeights = field(default_factory=GainWeights)
    gate: Gate = Gate.PROMOTED
    strategies: tuple[Strategy, ...] = tuple(Strategy)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.rounds < 1 or self.pictures_per_round < 1:
            raise ValueError(
                "rounds and pictures_per_round must be 1 or more, got "
                f"{self.rounds} and {self.pictures_per_round}"
            )
        if not self.strategies or len(set(self.strategies)) < len(self.strategies):
            raise ValueError(f"strategies must be different ones, got {self.strategies}")


class Work(NamedTuple):
    """What one picture took.

    Attributes
    ----------
    objects, clicks, untouched, corrected, added, drawn, deleted : int
        Objects in all, clicks in all, objects by outcome, and false proposals.
    """

    objects: int
    clicks: int
    untouched: int
    corrected: int
    added: int
    drawn: int
    deleted: int

    @classmethod
    def of(cls, done: AnnotatedPicture) -> Work:
        """Count what was done."""
        return cls(
            objects=len(done.objects),
            clicks=done.clicks,
            untouched=done.count(Outcome.UNTOUCHED),
            corrected=done.count(Outcome.CORRECTED),
            added=done.count(Outcome.ADDED),
            drawn=done.count(Outcome.DRAWN),
            deleted=done.deleted,
        )


def total(works: Iterable[Work]) -> Work:
    """Return the work on several pictures together."""
    every = list(works)
    return Work(**{name: sum(getattr(one, name) for one in every) for name in Work._fields})


@dataclass(frozen=True)
class SimulatedRound:
    """One round.

    Attributes
    ----------
    number : int
        0 is the model that the loop starts from, before anything is labelled.
    labelled : dict of str to Work
        By picture, what was labelled in this round; none in round 0.
    test : dict of str to Work
        By picture, what the test pictures would cost with the model after this round.
    held_out : dict of str to float
        Figures on the held-out pictures.
    model_id : str
        After this round.
    min_score : float
        From which objects are proposed after this round.
    seconds : float
    """

    number: int
    labelled: dict[str, Work]
    test: dict[str, Work]
    held_out: dict[str, float]
    model_id: str
    min_score: float
    seconds: float


@dataclass(frozen=True)
class Simulation:
    """How the loop went.

    Attributes
    ----------
    start : dict
        Name and id of the model, and the sets that it was trained on as far as its passport says.
    sets : tuple of str
    options : SimulationOptions
    pool, held_out, test : int
        Pictures of each part.
    courses : dict of Strategy to list of SimulatedRound
    """

    start: dict[str, Any]
    sets: tuple[str, ...]
    options: SimulationOptions
    pool: int
    held_out: int
    test: int
    courses: dict[Strategy, list[SimulatedRound]]


def simulate(
    start_from: str | Path,
    pictures: SimulatedPictures,
    folder: Path,
    options: SimulationOptions | None = None,
    *,
    report: Report | None = None,
) -> Simulation:
    """Play the loop.

    Parameters
    ----------
    start_from : str or Path
        Name or file of the model to begin with.
    pictures : SimulatedPictures
        The pool, the held-out pictures and the test pictures.
    folder : Path
        For label stores and weights; made where it does not exist.
    options : SimulationOptions, optional
    report : callable, optional
        Told in words what is done.

    Raises
    ------
    DatasetError
        If the pool is too small, too few pictures are held out, or pictures hold no objects.
    """
    chosen = options or SimulationOptions()
    wanted = chosen.rounds * chosen.pictures_per_round
    if len(pictures.pool) < wanted:
        raise DatasetError(
            f"{chosen.rounds} rounds of {chosen.pictures_per_round} pictures need {wanted} in the "
            f"pool, got {len(pictures.pool)}; play fewer, or take more pictures"
        )
    if chosen.gate == Gate.PROMOTED and len(pictures.held_out) < LEAST_PICTURES:
        raise DatasetError(
            f"whether weights are better beyond doubt takes {LEAST_PICTURES} held-out pictures, "
            f"got {len(pictures.held_out)}; hold out more, or go on with what is better on average"
        )
    make_folder(folder)
    loop = _Loop(pictures, chosen, folder, report or (lambda _: None))
    model = load_model(start_from, device="cpu")
    passport = model.passport
    start = {
        "model": str(start_from) if not Path(start_from).is_file() else Path(start_from).name,
        "model_id": model.model_id,
        "trained_on": [one.name for one in passport.training_data] if passport else [],
    }
    begin = time.perf_counter()
    test = loop.test(model, chosen.min_score)
    seconds = time.perf_counter() - begin
    first = SimulatedRound(0, {}, test, {}, model.model_id, chosen.min_score, seconds)
    loop.tell("start", first)
    return Simulation(
        start=start,
        sets=pictures.sets,
        options=chosen,
        pool=len(pictures.pool),
        held_out=len(pictures.held_out),
        test=len(pictures.test),
        courses={one: loop.play(one, model, first) for one in chosen.strategies},
    )


@dataclass(frozen=True)
class _Loop:
    """Pictures, options, and where to work."""

    pictures: SimulatedPictures
    options: SimulationOptions
    folder: Path
    report: Report

    def test(self, model: Model, min_score: float) -> dict[str, Work]:
        """Return what the test pictures would cost with a model."""
        return {
            file.id: Work.of(self._annotated(model, file, min_score)) for file in self.pictures.test
        }

    def play(self, strategy: Strategy, start: Model, first: SimulatedRound) -> list[SimulatedRound]:
        """Go through all rounds in one way."""
        order = np.random.default_rng(self.options.seed).permutation(len(self.pictures.pool))
        left = [self.pictures.pool[index] for index in order]
        done: list[LabelledFile] = []
        judged: dict[str, list[tuple[float, bool]]] = defaultdict(list)
        model, min_score, rounds = start, first.min_score, [first]
        folder = make_folder(self.folder / strategy.name.lower().replace("_", "-"))
        with LabelStore.create(folder / "labels") as store:
            for number in range(1, self.options.rounds + 1):
                begin = time.perf_counter()
                batch = self._next(strategy, model, left, done)
                left = [file for file in left if file not in batch]
                works: dict[str, Work] = {}
                for file in batch:
                    labelled = self._annotated(model, file, min_score)
                    self._store(store, model, file, labelled)
                    judged[model.model_id] += labelled.judged
                    works[file.id] = Work.of(labelled)
                done += batch
                figures: dict[str, float] = {}
                if strategy != Strategy.NO_LEARNING:
                    model, figures = self._learn(store, model, folder / f"{number}.safetensors")
                min_score = calibrated_min_score(judged[model.model_id], self.options.min_score)
                last = rounds[-1]
                is_same = (model.model_id, min_score) == (last.model_id, last.min_score)
                test = last.test if is_same else self.test(model, min_score)
                seconds = time.perf_counter() - begin
                rounds.append(
                    SimulatedRound(number, works, test, figures, model.model_id, min_score, seconds)
                )
                self.tell(strategy, rounds[-1])
        return rounds

    def tell(self, strategy: str, one: SimulatedRound) -> None:
        """Report a round."""
        now, test = total(one.labelled.values()), total(one.test.values())
        labelled = (
            f"labelled {now.objects} objects with {now.clicks / now.objects:.2f} clicks each; "
            if now.objects
            else ""
        )
        self.report(
            f"{strategy}, round {one.number}: {labelled}test pictures "
            f"{test.clicks / max(1, test.objects):.2f} clicks each, "
            f"{100 * test.untouched / max(1, test.objects):.0f} % untouched, proposed from "
            f"{one.min_score:.2f} ({one.seconds:.0f} s)"
        )

    def _next(
        self,
        strategy: Strategy,
        model: Model,
        left: Sequence[LabelledFile],
        done: Sequence[LabelledFile],
    ) -> list[LabelledFile]:
        """Return the pictures of a round."""
        count = self.options.pictures_per_round
        if strategy != Strategy.CHOSEN:
            return list(left[:count])
        signals = [_signals_of(model, file) for file in left]
        known = [pooled_embedding(encode_image(model, file.read().image)) for file in done]
        gains = choose_next(signals, known, count, self.options.weights)
        by_id = {file.id: file for file in left}
        return [by_id[gain.image_id] for gain in gains]

    def _annotated(self, model: Model, file: LabelledFile, min_score: float) -> AnnotatedPicture:
        """Propose objects and let the person go over them."""
        image = file.read()
        rgb = to_rgb(image.image)
        encode = encoding_once(rgb, partial(encode_rgb, model))
        proposals = propose(model, rgb, min_score=min_score, encode=encode)
        return annotate(model, image, encode(rgb), proposals, self.options.annotator)

    @staticmethod
    def _store(store: LabelStore, model: Model, file: LabelledFile, done: AnnotatedPicture) -> None:
        """Put what was labelled into the store."""
        (record,) = store.add_images([ImageSource(file.image_path, group=file.id)])
        store.put_objects(
            LabelledObject(
                record.image_id,
                one.rle,
                prompts=_events(one.dialogue, has_seed=one.score is not None),
                author="simulated",
                model_id=None if one.outcome == Outcome.DRAWN else model.model_id,
                stage=(Stage.ASSISTED_MANUAL if one.score is None else Stage.SEMI_AUTOMATIC),
                review=(
                    ReviewState.CORRECTED
                    if one.outcome == Outcome.CORRECTED
                    else ReviewState.ACCEPTED
                ),
                score=one.score,
            )
            for one in done.objects
        )
        store.set_complete(record.image_id, file.complete)

    def _learn(self, store: LabelStore, model: Model, path: Path) -> tuple[Model, dict[str, float]]:
        """Train on all labels so far; return the model to go on with, and training's figures."""
        assert model.path is not None
        result = fine_tune(
            model.path,
            store.as_labelled_files(),
            self.pictures.held_out,
            path,
            self.options.training,
            name="simulated",
        )
        figures = dict(result.best.figures)
        gate = result.comparison if self.options.gate == Gate.PROMOTED else result
        self.report(f"{result.comparison}: {'goes on with it' if gate.is_better else 'not taken'}")
        return (load_model(path, device="cpu") if gate.is_better else model), figures


def _signals_of(model: Model, file: LabelledFile) -> Signals:
    """Return what a model says about a picture."""
    image = file.read().image
    return measure_signals(
        model, file.id, encode_image(model, image), is_blank=shows_nothing(image)
    )


def changes(simulation: Simulation) -> dict[Strategy, dict[str, Interval]]:
    """Return by how much the work on the test pictures changed from the start to the end.

    Returns
    -------
    dict
        Of each strategy ``clicks_per_object`` and ``untouched_share``, each the mean over the test
        pictures of the difference, with its paired bootstrap interval over pictures.
    """
    found = {}
    for strategy, rounds in simulation.courses.items():
        first, last = rounds[0].test, rounds[-1].test
        names = [name for name in first if first[name].objects]
        found[strategy] = {
            "clicks_per_object": paired_bootstrap(
                [last[name].clicks / last[name].objects for name in names],
                [first[name].clicks / first[name].objects for name in names],
            ),
            "untouched_share": paired_bootstrap(
                [last[name].untouched / last[name].objects for name in names],
                [first[name].untouched / first[name].objects for name in names],
            ),
        }
    return found


def clicks_per_object(test: dict[str, Work]) -> Interval:
    """Return the mean clicks per object over test pictures, each picture weighing the same."""
    return bootstrap_mean([one.clicks / one.objects for one in test.values() if one.objects])


def to_dict(simulation: Simulation) -> dict[str, Any]:
    """Return a simulation as values for JSON."""
    return {
        "start": simulation.start,
        "sets": list(simulation.sets),
        "pictures": {
            "pool": simulation.pool,
            "held_out": simulation.held_out,
            "test": simulation.test,
        },
        "options": asdict(simulation.options),
        "courses": {
            str(strategy): [
                {
                    "round": one.number,
                    "labelled": {name: work._asdict() for name, work in one.labelled.items()},
                    "test": {name: work._asdict() for name, work in one.test.items()},
                    "held_out": one.held_out,
                    "model_id": one.model_id,
                    "min_score": round(one.min_score, 3),
                    "seconds": round(one.seconds, 1),
                }
                for one in rounds
            ]
            for strategy, rounds in simulation.courses.items()
        },
        "changes": {
            str(strategy): {name: _plain(one) for name, one in found.items()}
            for strategy, found in changes(simulation).items()
        },
    }


def _plain(interval: Interval) -> dict[str, float | int | None]:
    """Return an interval for JSON, which knows no NaN."""
    values = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {
        **{name: None if np.isnan(value) else round(value, 4) for name, value in values.items()},
        "pictures": interval.count,
    }


def _events(dialogue: Dialogue, *, has_seed: bool) -> tuple[PromptEvent, ...]:
    """Return what was said as the label store keeps it."""
    events = [] if dialogue.box_xyxy is None else [PromptEvent.box(*dialogue.box_xyxy)]
    for index, click in enumerate(dialogue.clicks):
        if index == 0 and has_seed and click.is_positive:
            events.append(PromptEvent.seed(click.x, click.y))
        else:
            events.append(PromptEvent.point(click.x, click.y, is_positive=click.is_positive))
    return tuple(events)
