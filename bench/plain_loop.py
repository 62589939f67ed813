"""The limit of a server: decode, forward and encode in a loop, without HTTP, a queue, or anybody who waits.

`echo 5 | python -m bench.plain_loop MODEL PHOTO --threads 2` runs for 5 s and prints one JSON object; each further line
of its input is one more turn. Each thread computes with one thread, as the server's workers do; the engine is the one
that the environment asks for, as for the server.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from kennel.classifier.network.predictor import Predictor
from serving.engines.choose import choose_engine
from serving.settings import ModelSettings

_WARM_UP_S = 1.0


def main() -> None:
    """Run a turn for each line of seconds, and print its rate."""
    parser = argparse.ArgumentParser(prog="python -m bench.plain_loop", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor, photo = Predictor.load(given.model), given.photo.read_bytes()
    engine = choose_engine(predictor, given.model, ModelSettings.from_environ(), given.threads)

    def answer() -> str:
        [row] = engine.probabilities(predictor.tensor(photo)[None])
        lines = [(one.label, one.class_name, one.probability) for one in predictor.top(row, 5)]
        return json.dumps([dict(zip(("label", "class", "probability"), line, strict=True)) for line in lines])

    def count(seconds: float, barrier: threading.Barrier) -> int:
        barrier.wait()
        until, answers = time.perf_counter() + seconds, 0
        while time.perf_counter() < until:
            answer()
            answers += 1
        return answers

    pool = ThreadPoolExecutor(given.threads, initializer=torch.set_num_threads, initargs=(1,))

    def turn(seconds: float) -> float:
        barrier, start = threading.Barrier(given.threads), time.perf_counter()
        answers = sum(pool.map(count, [seconds] * given.threads, [barrier] * given.threads))
        return answers / (time.perf_counter() - start)

    turn(_WARM_UP_S)
    for line in sys.stdin:
        print(json.dumps({"requests_per_s": turn(float(line)), "engine": engine.name}), flush=True)


if __name__ == "__main__":
    main()
