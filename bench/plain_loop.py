"""The limit of a server: decode, forward and encode in a loop, without HTTP, a queue, or anybody who waits.

`python -m bench.plain_loop MODEL PHOTO --threads 2 --seconds 5` prints one JSON object. Each thread computes with one
thread, as the server's workers do; the engine is the one that the environment asks for, as for the server.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import torch

from kennel.classifier.predictor import Predictor
from serving.engines import choose_engine
from serving.settings import ModelSettings

_WARM_UP = 10  # answers of each thread


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.plain_loop", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor, photo = Predictor.load(given.model), given.photo.read_bytes()
    engine = choose_engine(predictor, given.model, ModelSettings.from_environ(), given.threads)
    barrier, counts = threading.Barrier(given.threads), [0] * given.threads

    def answer() -> str:
        [row] = engine.probabilities(predictor.tensor(photo)[None])
        lines = [(one.label, one.class_name, one.probability) for one in predictor.top(row, 5)]
        return json.dumps([dict(zip(("label", "class", "probability"), line, strict=True)) for line in lines])

    def work(number: int) -> None:
        torch.set_num_threads(1)
        for _ in range(_WARM_UP):
            answer()
        barrier.wait()
        until = time.perf_counter() + given.seconds
        while time.perf_counter() < until:
            answer()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(given.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"requests_per_s": sum(counts) / given.seconds, "engine": engine.name}))


if __name__ == "__main__":
    main()
