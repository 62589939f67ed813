"""What the tuning engine is worth: Bayesian against Random, Hyperband's epochs, and what a trial costs beside itself.

The studies drive the search directly, over published functions; the rest are tuning jobs through the API of a server
that is started here. `--only study`, `hyperband`, `cost`, `api` or `overhead` runs a part.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from bench import machine
from bench.functions import BRANIN, HARTMANN6, Function
from bench.tuning_server import Server, tune
from bench.tuning_study import search, search_by_epoch, suggestion_s
from kennel.emulator.tuning.problem import GP, TPE, choose_engine

_TRIALS = {TPE: {BRANIN.name: 40, HARTMANN6.name: 40}, GP: {BRANIN.name: 25, HARTMANN6.name: 30}}
_EXAMPLE = """\
example:
  .venv/bin/python -m bench.tuning --only study --seeds 20
  .venv/bin/python -m bench.tuning --only overhead --base kennel-base:bookworm
"""


def study(seeds: int, engines: Sequence[str]) -> None:
    """Bayesian and Random at equal trials, the same seeds, and how likely the difference is by chance."""
    print(f"| function | trials | search | median of {seeds} best | quartiles | Wilcoxon p | Mann-Whitney p |")
    print("|---|---|---|---|---|---|---|")
    for engine, function in itertools.product(engines, (BRANIN, HARTMANN6)):
        trials = _TRIALS[engine][function.name]
        random = [search(function, "Random", seed, trials).best for seed in range(seeds)]
        _row(function, trials, "Random", random)
        found = [search(function, "Bayesian", seed, trials, engine).best for seed in range(seeds)]
        paired = stats.wilcoxon(found, random, alternative="less").pvalue
        ranked = stats.mannwhitneyu(found, random, alternative="less").pvalue
        _row(function, trials, f"Bayesian ({engine})", found, f"{paired:.1e} | {ranked:.1e}")


def _row(function: Function, trials: int, name: str, found: list[float], chance: str = "|") -> None:
    low, middle, high = statistics.quantiles(found, n=4)
    what = f"{function.name}, minimum {function.minimum:.3f}"
    print(f"| {what} | {trials} | {name} | {middle:.3f} | {low:.3f} to {high:.3f} | {chance} |", flush=True)


def hyperband(seeds: int) -> None:
    """How many epochs Hyperband needs for the value that Random finds with whole trainings."""
    print(f"| function | Random: trainings of | epochs | Hyperband's epochs, median of {seeds} | share | quartiles |")
    print("|---|---|---|---|---|---|")
    for function in (BRANIN, HARTMANN6):
        for epochs, trials in ((27, 20), (81, 30)):
            spent = []
            for seed in range(seeds):
                full = search_by_epoch(function, "Random", seed, epochs, trials=trials)
                spent.append(search_by_epoch(function, "Hyperband", seed, epochs, trials=400, goal=full.best).epochs)
            shares = [one / (epochs * trials) for one in spent]
            low, middle, high = statistics.quantiles(shares, n=4)
            row = (function.name, f"{trials} x {epochs} epochs", epochs * trials, round(statistics.median(spent)),
                   f"{middle:.2f}", f"{low:.2f} to {high:.2f}")  # fmt: skip
            print(f"| {' | '.join(map(str, row))} |", flush=True)


def cost(engines: Sequence[str]) -> None:
    """What a suggestion costs after many trials, up to the most that a tuning job may have; six hyperparameters."""
    print("| search | trials before | a suggestion, median of 3 | longest |\n|---|---|---|---|")
    for engine in engines:
        suggestion_s(HARTMANN6, 20, engine, seed=0)  # with its imports
        for known in (20, 100, 300, 749):
            found = [suggestion_s(HARTMANN6, known, engine, seed) for seed in range(3)]
            print(f"| {engine} | {known} | {statistics.median(found):.2f} s | {max(found):.2f} s |", flush=True)


def api(folder: Path, trials: int) -> None:
    """One whole job of a one-second trainer of Branin's function, two trials at a time."""
    with Server(folder, "process") as server:
        start = time.monotonic()
        job = tune(server, "branin", BRANIN, trials=trials, parallel=2, sleep_s=1.0)
        seconds = time.monotonic() - start
    best = job["BestTrainingJob"]
    value = best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    print(f"{trials} trials of one second, two at a time: {seconds:.1f} s, {job['HyperParameterTuningJobStatus']}.")
    print(f"Best {value:.4f} (minimum {BRANIN.minimum:.4f}) with {best['TunedHyperParameters']}.")


def overhead(folder: Path, trials: int, base: str | None) -> None:
    """The time between one trial's program and the next one's, and the engine's part of it."""
    print("| runner | strategy | trials | median gap | longest | of it the engine's, median | longest |")
    print("|---|---|---|---|---|---|---|")
    for runner in ("process", *(["docker"] if base else [])):
        with Server(folder / runner, runner, base) as server:
            for strategy in ("Random", "Bayesian"):
                name = f"gap-{strategy.lower()}"
                tune(server, name, BRANIN, trials=trials, parallel=1, sleep_s=0.3, strategy=strategy)
                columns = list(zip(*server.gaps(name), strict=True))
                cells = [f"{found:.2f} s" for column in columns for found in (statistics.median(column), max(column))]
                print(f"| {runner} | {strategy} | {trials} | {' | '.join(cells)} |", flush=True)


def main(arguments: list[str]) -> int:
    """Run what was asked for and print Markdown."""
    parser = argparse.ArgumentParser(
        prog="bench.tuning", epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("study", "hyperband", "cost", "api", "overhead"), help="default: all of it")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--engines", nargs="+", choices=(GP, TPE), default=[TPE, GP] if choose_engine()[0] == GP else [TPE]
    )
    parser.add_argument("--trials", type=int, default=20, help="of the jobs through the API")
    parser.add_argument("--base", help="an image with python3.11, on which the docker runner is measured, too")
    options = parser.parse_args(arguments)
    for name, value in machine.describe().items():
        print(f"{name}: {value}")
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            "study": lambda: study(options.seeds, options.engines),
            "hyperband": lambda: hyperband(options.seeds),
            "cost": lambda: cost(options.engines),
            "api": lambda: api(Path(folder) / "api", options.trials),
            "overhead": lambda: overhead(Path(folder), options.trials, options.base),
        }
        for name in [options.only] if options.only else parts:
            print(f"\n{name}\n")
            parts[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
