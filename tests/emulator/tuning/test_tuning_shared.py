"""What trials of a tuning job have in common: a folder and a process that waits, which are gone when it is over."""

from __future__ import annotations

from pathlib import Path

from tests.emulator.emulator_harness import Emulator, wait_for
from tests.emulator.tuning.tuning_harness import WARM_IMAGE, definition, run, trials


def test_a_trial_finds_what_earlier_trials_left_and_nothing_stays(emulator: Emulator, tmp_path: Path) -> None:
    one = definition(tmp_path, {"share": "yes", "epochs": "1"})
    for name in ("first", "second"):  # the second tuning job sees nothing of the first
        job = run(emulator, name, tmp_path, jobs=3, parallel=1, TrainingJobDefinition=one)
        assert job["HyperParameterTuningJobStatus"] == "Completed"
        found = trials(emulator, name)
        values = [trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] + 1 for trial in found]
        assert [round(value) for value in values] == [0, 1, 2]
        wait_for(lambda name=name: not (emulator.home / "tunings" / name).exists())  # type: ignore[misc]


def test_a_trial_is_run_by_a_process_that_waited_since_the_one_before(emulator: Emulator, tmp_path: Path) -> None:
    one = definition(tmp_path, {"waited": "?"}, WARM_IMAGE)
    job = run(emulator, "warm", tmp_path, jobs=3, parallel=1, TrainingJobDefinition=one)
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    found = [trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for trial in trials(emulator, "warm")]
    assert [value + 1 for value in found] == [0, 1, 1]
    wait_for(lambda: not list((emulator.home / "standby").iterdir()))  # nobody waits any more
