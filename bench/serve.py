"""How fast the server is, against what it could be and what people would else use: one Markdown table.

The limit is `bench/plain_loop.py`: decode, forward and encode without HTTP, on as many threads as there are workers.
Server and loop run side by side and compute in turns, so that a machine that gets slower gets slower for both; the
table has the median ratio of the turns and their range. Clients
run on the same machine and take a part of the processors that no real server would have to give away; the table names
it. `--soak MINUTES` instead keeps a server at 80 % of its own rate and watches its memory.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench import machine
from bench.process import Others
from bench.rows import Row, show
from bench.servers import Server, Stage, ask, bare_start_s, has_java, looping, serving

_LOG = logging.getLogger(__name__)
_MIB = 2**20
_CLIENTS = 16
_WARM_S = 2.0
NAMES = ("limit", "latency", "mms", "openvino", "memory", "start-up")


class Bench:
    """The measurements, on one stage."""

    def __init__(self, stage: Stage, rounds: int, seconds: float, workers: int) -> None:
        self._stage, self._rounds, self._seconds, self._workers = stage, rounds, seconds, workers

    def rows(self, name: str) -> list[Row]:
        """Measure one of NAMES."""
        rows: list[Row] = getattr(self, name.replace("-", "_"))()
        return rows

    def _ask(self, server: Server, photo: Path, clients: int, warm_s: float = _WARM_S) -> dict[str, float]:
        if warm_s:
            ask(server, photo, clients, warm_s)
        found = ask(server, photo, clients, self._seconds)
        if found["failed"]:
            raise RuntimeError(f"{found['failed']} requests failed.")
        _LOG.info("%s", ", ".join(f"{key} {value:.4g}" for key, value in found.items()))
        return found

    def limit(self) -> list[Row]:
        """Requests/s at 16 clients over the plain loop's, for each engine and both photos."""
        rows = []
        for engine, settings in _ENGINES.items():
            for title, photo in (("500x375", self._stage.small), ("12 MP", self._stage.large)):
                turns = self._turns(photo, settings)
                rates = " / ".join(
                    f"{statistics.median(turn[side] for turn in turns):.1f}" for side in ("server", "loop")
                )
                clients = statistics.median(turn["clients"] for turn in turns)
                ratios = tuple(turn["server"] / turn["loop"] for turn in turns)
                what = f"requests/s of {_CLIENTS} clients, {title}, {engine}: native front / plain loop"
                detail = f"requests/s: {rates}; the clients took {clients:.1%} of the processors"
                others = max(turn["others"] for turn in turns)
                rows.append(Row(f"limit, {engine}", what, ">= 0.95, goal 0.98", ratios, "x", detail, others))
        return rows

    def _turns(self, photo: Path, settings: dict[str, str]) -> list[dict[str, float]]:
        """Server and loop run side by side and compute in turns; each number of the loop is that before and after."""
        workers = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(self._workers)}
        with (
            serving(self._stage.model, **workers, **settings) as server,
            looping(self._stage.model, photo, self._workers, **settings) as plain,
        ):
            ask(server, photo, _CLIENTS, _WARM_S)
            before, turns = plain.rate(self._seconds), []
            for _ in range(self._rounds * 3):
                others = Others(server.process.pid, plain.process.pid)
                found = self._ask(server, photo, _CLIENTS, warm_s=0)
                after = plain.rate(self._seconds)
                clients = found["clients_cpu_s"] / found["seconds"] / self._workers
                turns.append({"server": found["requests_per_s"], "loop": (before + after) / 2, "clients": clients,
                              "others": others.share()})  # fmt: skip
                _LOG.info("plain loop %.4g, others had %.0f %%", after, turns[-1]["others"] * 100)
                before = after
        return turns

    def latency(self) -> list[Row]:
        """p95 over p50 at 16 clients, and the medians at 1, 4 and 16."""
        values, medians = [], []
        for _ in range(self._rounds):
            with serving(self._stage.model, SAGEMAKER_MODEL_SERVER_WORKERS=str(self._workers)) as server:
                found = [self._ask(server, self._stage.small, clients) for clients in (1, 4, _CLIENTS)]
            values.append(found[-1]["p95_ms"] / found[-1]["p50_ms"])
            medians.append([one["p50_ms"] for one in found])
        detail = "p50 at 1, 4, 16 clients: " + ", ".join(
            f"{statistics.median(column):.1f} ms" for column in zip(*medians, strict=True)
        )
        return [Row("latency", f"p95 / p50 at {_CLIENTS} clients, defaults", "<= 1.3", tuple(values), "x", detail)]

    def mms(self) -> list[Row]:
        """Both fronts at 1 and at 16 clients, in torch fp32."""
        if not has_java():
            return [Row("mms", "multi-model-server against the native front", ">= 1", detail="there is no java here")]
        slow: list[float] = []
        rate: list[float] = []
        for number in range(self._rounds):
            found = {}
            for front in ("native", "mms") if number % 2 == 0 else ("mms", "native"):
                settings = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(self._workers), "KENNEL_PRECISION": "fp32"}
                with serving(self._stage.model, front, **settings) as server:
                    found[front] = [self._ask(server, self._stage.small, clients) for clients in (1, _CLIENTS)]
            slow.append(found["mms"][0]["p50_ms"] / found["native"][0]["p50_ms"])
            rate.append(found["native"][1]["requests_per_s"] / found["mms"][1]["requests_per_s"])
        return [
            Row("mms, 1 client", "p50: mms front / native front, torch fp32", ">= 1", tuple(slow)),
            Row("mms, 16 clients", "requests/s: native front / mms front, torch fp32", "", tuple(rate)),
        ]

    def openvino(self) -> list[Row]:
        """Requests/s with OpenVINO over torch in float32 and over torch as it chooses."""
        rates: dict[str, list[float]] = {name: [] for name in _ENGINES}
        for _ in range(self._rounds):
            for name, settings in _ENGINES.items():
                workers = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(self._workers)}
                with serving(self._stage.model, **workers, **settings) as server:
                    rates[name].append(self._ask(server, self._stage.small, _CLIENTS)["requests_per_s"])
        rows = []
        for name, target in (("torch fp32", ">= 2"), ("torch auto", "")):
            pairs = zip(rates["openvino auto"], rates[name], strict=True)
            ratios = tuple(fast / slow for fast, slow in pairs)
            detail = (
                f"requests/s: {statistics.median(rates['openvino auto']):.1f} / {statistics.median(rates[name]):.1f}"
            )
            rows.append(Row("openvino", f"requests/s: openvino auto / {name}", target, ratios, "x", detail))
        return rows

    def memory(self) -> list[Row]:
        """Memory of a server of two workers after a hundred or so answers: what a container has to have, and all."""
        rows = []
        for name, settings in _ENGINES.items():
            sizes, whole = [], []
            for _ in range(self._rounds):
                with serving(self._stage.model, SAGEMAKER_MODEL_SERVER_WORKERS="2", **settings) as server:
                    self._ask(server, self._stage.small, _CLIENTS)
                    self._ask(server, self._stage.large, _CLIENTS)
                    sizes.append(server.memory_bytes("Pss_Anon") / _MIB)
                    whole.append(server.memory_bytes() / _MIB)
            what = f"memory of a server of two workers after its load, without mapped files, {name}"
            target = "<= 450" if name == "torch auto" else ""
            detail = f"with the pages of mapped files (PSS): {statistics.median(whole):.0f} MiB"
            rows.append(Row(f"memory, {name}", what, target, tuple(sizes), "MiB", detail))
        return rows

    def start_up(self) -> list[Row]:
        """Seconds to the first honest ping over those of importing torch and loading the model."""
        ratios, seconds = [], []
        for _ in range(self._rounds):
            bare = bare_start_s(self._stage.model)
            with serving(self._stage.model) as server:
                ratios.append(server.ready_s / bare)
                seconds.append((server.ready_s, bare))
        medians = " / ".join(f"{statistics.median(column):.2f}" for column in zip(*seconds, strict=True))
        what = "first healthy ping / importing torch and loading the model"
        return [Row("start-up", what, "<= 1.5", tuple(ratios), "x", f"seconds: {medians}")]


_ENGINES = {
    "torch auto": {},
    "torch fp32": {"KENNEL_PRECISION": "fp32"},
    "openvino auto": {"KENNEL_ENGINE": "openvino"},
}


def soak(stage: Stage, minutes: float, workers: int) -> list[str]:
    """A server at 80 % of its rate; its memory at the end of each of ten parts, and what failed."""
    lines = []
    with serving(stage.model, SAGEMAKER_MODEL_SERVER_WORKERS=str(workers)) as server:
        full = ask(server, stage.small, _CLIENTS, 10)["requests_per_s"]
        lines.append(f"rate: {full:.1f} requests/s at most, {0.8 * full:.1f} asked for, {workers} workers")
        lines += ["", "| minute | requests/s | failed | p50 ms | p99 ms | memory MiB |", "|---|---|---|---|---|---|"]
        start = time.perf_counter()
        for _ in range(10):
            found = ask(server, stage.small, _CLIENTS, minutes * 6, 0.8 * full)
            now = (time.perf_counter() - start) / 60
            lines.append(
                f"| {now:.1f} | {found['requests_per_s']:.1f} | {found['failed']} | {found['p50_ms']:.1f} | "
                f"{found['p99_ms']:.1f} | {server.memory_bytes() / _MIB:.1f} |"
            )
            _LOG.info("%s", lines[-1])
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement (default 5)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="watch the memory instead")
    given = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    head = {**machine.describe(), "network": "ResNet18, 224 px", "workers": str(given.workers)}
    head["command"] = f"python -m bench.serve {' '.join(sys.argv[1:])}".strip()
    with tempfile.TemporaryDirectory(prefix="kennel-bench-") as folder:
        stage = Stage.build(Path(folder))
        if given.soak:
            print(
                "\n".join(
                    [*(f"- {name}: {text}" for name, text in head.items()), *soak(stage, given.soak, given.workers)]
                )
            )
            return
        bench = Bench(stage, given.rounds, given.seconds, given.workers)
        rows = [row for name in NAMES if name in given.only for row in bench.rows(name)]
    show(head, rows)


if __name__ == "__main__":
    main()
