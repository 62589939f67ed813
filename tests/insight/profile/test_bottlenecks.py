"""Rules that compare a GPU with the machine: samples of real machines, in which only the GPU is made up.

Where the samples come from: recorded/README.md.
"""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from kennel.classifier.profiler.system import Machine
from kennel.insight.profile.analysis import analyse
from kennel.insight.profile.measures import usage
from kennel.insight.profile.reading import run, sources, system
from kennel.insight.profile.rules import build
from kennel.insight.profile.rules.base import ISSUES, QUIET
from tests.insight.profile import recording

RECORDED = Path(__file__).with_name("recorded")
SHORT = {
    "CPUBottleneck": {"patience": 20},
    "IOBottleneck": {"patience": 20},
    "BatchSize": {"patience": 20, "window": 50},
}
EXPECTED = {  # rule -> what runs beside the training -> verdict
    "CPUBottleneck": {"nothing": QUIET, "processor": ISSUES, "disk": QUIET},
    "IOBottleneck": {"nothing": QUIET, "processor": QUIET, "disk": ISSUES},
    "BatchSize": {"nothing": ISSUES, "processor": QUIET, "disk": ISSUES},
}


def verdict(folder: Path, rule: str) -> str:
    """Of a rule with AWS's thresholds; ten seconds of samples are too few for its patience."""
    rules = build({name: str(value) for name, value in SHORT[rule].items()}, rule)
    [found] = analyse(run.read(sources.find(folder), "a run"), rules).verdicts
    return found.outcome.status


def unpacked(folder: Path, beside: str) -> Path:
    target = folder / "system/incremental/2026112511/1795604460.algo-1.json"
    target.parent.mkdir(parents=True)
    target.write_bytes(gzip.decompress((RECORDED / f"{beside}.json.gz").read_bytes()))
    return folder


@pytest.mark.parametrize("beside", recording.BESIDE)
@pytest.mark.parametrize("rule", EXPECTED)
def test_recorded_samples(tmp_path: Path, rule: str, beside: str) -> None:
    assert verdict(unpacked(tmp_path, beside), rule) == EXPECTED[rule][beside]


@pytest.mark.parametrize("beside", recording.BESIDE)
def test_the_recordings_are_of_one_idle_gpu_and_two_cores(tmp_path: Path, beside: str) -> None:
    samples = run.read(sources.find(unpacked(tmp_path, beside)), "a run").samples
    assert system.devices(samples, system.CPU) == {"algo-1": ["cpu0", "cpu1"]}
    gpu = samples[samples["metric"] == system.GPU]["value"]
    assert len(gpu) > 90
    assert set(gpu) == {recording.GPU_PERCENT}


@pytest.mark.slow
def test_a_training_beside_a_full_processor(tmp_path: Path) -> None:
    """As recorded, but here and now. What a disk shows depends on who else works, so that is recorded only."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not on PATH; the GPU's stand-in is made with it")
    machine = Machine(os.getpid(), container=False)
    if machine.cpu_limit < machine.cores:
        pytest.skip(f"a quota of {machine.cpu_limit:g} of {machine.cores} cores, so they cannot be filled from here")
    recording.record(tmp_path, "processor")
    samples = run.read(sources.find(tmp_path), "a run").samples
    assert (usage.mean(samples, system.CONTAINER_CPU) or 100) < 50  # it is not the training that fills the machine
    assert {rule: verdict(tmp_path, rule) for rule in EXPECTED} == {
        "CPUBottleneck": ISSUES, "IOBottleneck": QUIET, "BatchSize": QUIET,
    }  # fmt: skip
