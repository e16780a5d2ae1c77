"""How long the Label Studio backend takes to answer a click on a picture that is prepared.

Over HTTP, as Label Studio asks: one annotator, then eight on eight pictures at once. Also the part
of it that the model alone takes, so that what the backend adds can be told from a slow machine.

    PYTHONPATH=. python benchmarks/labelstudio_click.py [--clicks 40] [--soak 2000]
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import resource
import statistics
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import requests
from flask import Flask, Response
from PIL import Image
from skimage import data
from tests.labelstudio_backend.payloads import click, own, request
from tests.labelstudio_backend.serving import served

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.inference.predict import encode_rgb, predict_masks
from sam_plugins.model.inference.types import Prompts

SIZE = (768, 1024)
ANNOTATORS = 8


def picture(number: int) -> np.ndarray:
    """Return a photograph of 1024 x 768 pixels, another one for each number."""
    source = Image.fromarray(data.astronaut()).resize(SIZE[::-1])
    return np.roll(np.asarray(source), 37 * number, axis=1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--soak", type=int, default=0, help="requests of a soak, 0 for none")
    args = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name, served(pictures()) as host:
        service = Service(
            Settings(folder=Path(name), allowed_hosts=("127.0.0.1",), fresh_seconds=3600)
        )
        with served(create_app(service.settings, service=service)) as url:
            measure(url, service, host, args.clicks, args.soak)
        service.close()


def pictures() -> Flask:
    """Return a server of the pictures."""
    app = Flask("pictures")
    files = []
    for number in range(ANNOTATORS):
        file = io.BytesIO()
        Image.fromarray(picture(number)).save(file, "PNG")
        files.append(file.getvalue())

    @app.get("/<int:number>.png")
    def show(number: int) -> Response:
        return Response(files[number], mimetype="image/png")

    return app


def measure(url: str, service: Service, host: str, clicks: int, soak: int) -> None:
    """Ask as one annotator, as eight, and for long."""
    urls = [f"{host}/{number}.png" for number in range(ANNOTATORS)]
    rng = np.random.default_rng(0)
    for number in range(ANNOTATORS):  # prepares the pictures
        ask(url, urls[number], number, rng)
    model = service.parts().engine.models.get("default")
    embedding = encode_rgb(model, picture(0))
    alone = []
    for _ in range(clicks):
        prompts = Prompts.single_points([[500, 300]])
        began = time.perf_counter()
        predict_masks(model, embedding, prompts).best()
        alone.append(time.perf_counter() - began)
    tell("the model alone", alone)
    # Annotators are other computers: not the server's interpreter.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as others:
        one = others.submit(alone_for_long, url, urls[0], clicks).result()
        tell("one annotator", one)
        eight = others.submit(at_once, url, urls, clicks).result()
        tell(f"{ANNOTATORS} annotators", eight)
    ratio = float(np.percentile(eight, 95)) / statistics.median(one)
    print(f"their 95th percentile is {ratio:.1f} times the median of one")
    if soak:
        soaked(url, urls, soak)


def alone_for_long(url: str, picture_url: str, clicks: int) -> list[float]:
    """Return the seconds of the clicks of one annotator."""
    rng = np.random.default_rng(0)
    return [ask(url, picture_url, 0, rng) for _ in range(clicks)]


def ask(url: str, picture_url: str, task: int, rng: np.random.Generator) -> float:
    """Click somewhere; return the seconds until the answer."""
    x, y = rng.uniform(100, 900), rng.uniform(100, 650)
    body = json.dumps(request([click(x, y, size_hw=SIZE)], own(), url=picture_url, task=task))
    began = time.perf_counter()
    response = requests.post(
        f"{url}/predict", data=body, headers={"Content-Type": "application/json"}, timeout=100
    )
    seconds = time.perf_counter() - began
    response.raise_for_status()
    return seconds


def at_once(url: str, urls: list[str], clicks: int) -> list[float]:
    """Return the seconds of clicks of eight annotators, each clicking when the last is answered."""
    found: list[float] = []

    def annotate(number: int) -> None:
        rng = np.random.default_rng(number)
        times = [ask(url, urls[number], number, rng) for _ in range(max(1, clicks // 4))]
        found.extend(times)

    threads = [threading.Thread(target=annotate, args=(n,)) for n in range(ANNOTATORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def soaked(url: str, urls: list[str], count: int) -> None:
    """Ask for long, and say how the memory grows."""
    rng = np.random.default_rng(1)
    for done in range(count + 1):
        if done % (count // 8) == 0:
            print(f"{done} requests: {resident_mib():.0f} MiB", flush=True)
        ask(url, urls[done % ANNOTATORS], done % ANNOTATORS, rng)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"most at any time: {peak:.0f} MiB")


def resident_mib() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def tell(what: str, seconds: list[float]) -> None:
    """Print median and 95th percentile."""
    high = float(np.percentile(seconds, 95))
    print(
        f"{what}: median {1000 * statistics.median(seconds):.0f} ms, "
        f"95th percentile {1000 * high:.0f} ms, n = {len(seconds)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
