"""``engine simulate``: the loop played with ground truth."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from sam_plugins.cli.console import mention, say, say_json
from sam_plugins.cli.engine.pictures import Actions


def add_simulate(
    actions: Actions[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add ``simulate``."""
    parser = actions.add_parser(
        "simulate",
        parents=[common],
        help="play the loop with ground truth: clicks per object, round by round",
        description="A simulated person labels pictures whose objects are known, the model "
        "learns from it, and other pictures tell what the next one would cost: pictures by "
        "expected gain, in random order, and without learning.",
    )
    parser.add_argument("data", metavar="DATA", help="folder of data sets with manifests")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="which data sets (all)")
    parser.add_argument("--split", default="val", help="which split (%(default)s)")
    parser.add_argument(
        "--pool-split", metavar="SPLIT",
        help="which split the pool and the held-out pictures come from (that of --split too)",
    )  # fmt: skip
    parser.add_argument(
        "--start-from", default="default", metavar="MODEL",
        help="name or file of the model that the loop starts from (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR",
        help="for simulation.json, simulation.md and simulation.png",
    )  # fmt: skip
    numbers = parser.add_argument_group("how much")
    for option, default, text in (
        ("--rounds", 4, "of labelling and learning"),
        ("--pictures", 4, "in each round"),
        ("--pool", 20, "pictures at most to choose from"),
        ("--held-out", 6, "pictures that training measures on"),
        ("--test", 6, "pictures that tell what the next one would cost"),
        ("--crop", 512, "pictures much longer are cut into pieces about so long"),
        ("--max-objects", 40, "pictures with more are left out"),
        ("--steps", 50, "of the optimiser in each round"),
        ("--seed", 0, "of all draws"),
    ):
        numbers.add_argument(option, type=int, default=default, help=f"{text} (%(default)s)")
    numbers.add_argument(
        "--measures", type=int,
        help="how often training measures in each round (2, or --steps where that is less)",
    )  # fmt: skip
    parser.add_argument("--learning-rate", type=float, default=5e-5, help="(%(default)s)")
    parser.add_argument(
        "--orders", nargs="+", choices=("chosen", "random", "no-learning"),
        default=["chosen", "random", "no-learning"],
        help="ways to go on: pictures chosen by expected gain or by lot, or by lot and the model "
        "never learns (all three)",
    )  # fmt: skip
    parser.add_argument(
        "--go-on-with", choices=("promoted", "better"), default="promoted",
        help="weights that promote would take, or all that are better on average on the held-out "
        "pictures (%(default)s)",
    )  # fmt: skip
    person = parser.add_argument_group("the simulated person")
    person.add_argument(
        "--accept-iou", type=float, default=0.85, help="from which a mask stays (%(default)s)"
    )
    person.add_argument(
        "--max-clicks", type=int, default=6, help="until an object is drawn by hand (%(default)s)"
    )
    person.add_argument(
        "--drawing-clicks", type=int, default=10, help="that drawing costs (%(default)s)"
    )
    person.add_argument("--first", choices=("point", "box"), default="point", help="(%(default)s)")
    person.add_argument(
        "--min-score", type=float, default=0.5, help="from which it is proposed to (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON and not a table")
    parser.set_defaults(run=lambda args: run_simulate(args, parser))


def run_simulate(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Play; return the exit code."""
    from sam_plugins.model.engine.fine_tuning import FineTuningOptions
    from sam_plugins.model.engine.simulated_annotator import AnnotatorOptions
    from sam_plugins.model.engine.simulated_pictures import prepare_pictures
    from sam_plugins.model.engine.simulation import (
        Gate,
        SimulationOptions,
        Strategy,
        simulate,
        to_dict,
    )
    from sam_plugins.model.engine.simulation_report import (
        draw_plot,
        require_matplotlib,
        to_markdown,
    )
    from sam_plugins.model.io.atomic import make_folder, require_writable_folder, write_bytes
    from sam_plugins.model.io.labelled import list_manifest_files

    if min(args.pool, args.held_out, args.test, args.crop, args.max_objects) < 1:
        parser.error("--pool, --held-out, --test, --crop and --max-objects must be 1 or more")
    try:
        options = SimulationOptions(
            rounds=args.rounds,
            pictures_per_round=args.pictures,
            training=FineTuningOptions(
                steps=args.steps,
                rounds=min(2, args.steps) if args.measures is None else args.measures,
                learning_rate=args.learning_rate,
                max_objects=10,
                seed=args.seed,
            ),
            annotator=AnnotatorOptions(
                accept_iou=args.accept_iou,
                max_clicks=args.max_clicks,
                drawing_clicks=args.drawing_clicks,
                first=args.first,
            ),
            min_score=args.min_score,
            gate=Gate(args.go_on_with),
            strategies=tuple(Strategy[one.upper().replace("-", "_")] for one in args.orders),
            seed=args.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    require_matplotlib()  # before the work
    output = make_folder(args.output)
    require_writable_folder(output)
    files = list_manifest_files(args.data, args.sets, split=args.split)
    with tempfile.TemporaryDirectory(prefix="sam-plugins-") as folder:
        pictures = prepare_pictures(
            files,
            Path(folder) / "crops",
            held_out=args.held_out,
            test=args.test,
            pool=args.pool,
            pool_files=(
                list_manifest_files(args.data, args.sets, split=args.pool_split)
                if args.pool_split
                else None
            ),
            crop=args.crop,
            max_objects=args.max_objects,
            seed=args.seed,
        )
        played = simulate(args.start_from, pictures, Path(folder) / "work", options, report=mention)
    values = to_dict(played)
    text = to_markdown(values)
    write_bytes(output / "simulation.json", json.dumps(values, indent=1, allow_nan=False).encode())
    write_bytes(output / "simulation.md", text.encode())
    draw_plot(values, output / "simulation.png")
    if args.json:
        say_json(values)
    else:
        say(text)
    return 0
