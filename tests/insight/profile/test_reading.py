"""Whatever is in a folder, the report says what is missing; it never ends in a traceback."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from kennel.insight.profile import contents
from kennel.insight.profile.analysis import Analysis, analyse
from kennel.insight.profile.reading import run, sources
from kennel.insight.report.html import page
from tests.insight.profile import samples


def analysed(folder: Path, which: int | None = None) -> Analysis:
    return analyse(run.read(sources.find(folder), "a run", which), usd_per_hour=1.0)


def shown(analysis: Analysis) -> str:
    return page(contents.report(analysis))


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A whole run with system metrics."""
    samples.timeline(tmp_path, workers=0, load_ms=2)
    samples.system(tmp_path, {"CPUUtilization": samples.steady(40), "MemoryUsedPercent": samples.steady(20)}, count=12)
    return tmp_path


def timelines(folder: Path) -> list[Path]:
    return sorted((folder / "framework/pevents").rglob("*.json"))


def test_a_whole_run_has_no_problem(profile: Path) -> None:
    analysis = analysed(profile)
    assert analysis.problems == ()
    assert analysis.summary is not None
    assert analysis.summary.steps == 40
    assert analysis.summary.initialization_s == pytest.approx(1.0, abs=1e-3)
    assert analysis.summary.training_s == pytest.approx(40 * 0.090, abs=1e-3)
    assert analysis.summary.validation_s == pytest.approx(2 * 0.120, abs=1e-3)  # the batches lie inside the validation
    assert analysis.summary.finalization_s == pytest.approx(0.5, abs=1e-3)
    assert "What is missing or odd" not in shown(analysis)


def test_an_empty_folder_is_a_report_of_what_is_missing(tmp_path: Path) -> None:
    analysis = analysed(tmp_path)
    assert analysis.summary is None
    assert [text.split(":")[0] for text in analysis.problems] == [
        "There is no timeline (framework/pevents)",
        "There are no system metrics (system/incremental)",
    ]
    assert "There is no timeline" in shown(analysis)


def test_a_folder_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(sources.NothingThereError, match="nothing is no folder"):
        sources.find(tmp_path / "nothing")


def test_a_timeline_that_is_cut_off_keeps_the_events_before_the_cut(profile: Path) -> None:
    [path] = timelines(profile)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    analysis = analysed(profile)
    assert analysis.summary is not None
    assert 10 < analysis.summary.steps < 30
    assert any("is cut off or damaged: 1 of" in text for text in analysis.problems)


def test_a_timeline_without_its_end_is_read_whole(profile: Path) -> None:
    [path] = timelines(profile)
    path.write_text(path.read_text().rstrip().removesuffix("]"))
    analysis = analysed(profile)
    assert analysis.summary is not None
    assert analysis.summary.steps == 40
    assert any("was not closed" in text for text in analysis.problems)


def test_the_file_that_a_killed_run_was_writing_is_read(profile: Path) -> None:
    [path] = timelines(profile)
    path.rename(profile / "framework" / f"{os.getpid()}-algo-1_pythontimeline.json.tmp")
    analysis = analysed(profile)
    assert analysis.summary is not None
    assert analysis.summary.steps == 40


@pytest.mark.parametrize(
    "text", ["", "null", "{}", "[1, 2]", '[{"ph": "X"}]', '[{"ph": "X", "ts": "a", "dur": 1}]', "\0\0"]
)
def test_a_timeline_that_holds_no_event_is_no_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "framework/pevents/2025112502/1764036000000000_1-algo-1_pythontimeline.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    analysis = analysed(tmp_path)
    assert any("holds no event" in problem for problem in analysis.problems)
    shown(analysis)


def test_damaged_metrics_findings_and_learning_curve_are_left_out_and_told(profile: Path) -> None:
    path = next((profile / "system").rglob("*.json"))
    path.write_text(path.read_text() + '{"Type": "cpu", "Na')
    (profile / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 0.5}\n{"epoch": 2, "tra')
    (profile / "findings.json").write_text("{")
    analysis = analysed(profile)
    assert [row["epoch"] for row in analysis.run.epochs] == [1]
    said = " ".join(analysis.problems)
    assert "1 lines are cut off" in said
    assert "metrics.jsonl: line 2" in said
    assert "findings.json is cut off" in said
    shown(analysis)


def test_missing_steps_are_counted(tmp_path: Path) -> None:
    samples.timeline(tmp_path, steps=10)
    samples.timeline(tmp_path, steps=10, first=15, begin_s=samples.BEGIN_S + 1.9, initialisation_s=0)
    analysis = analysed(tmp_path)
    assert any("5 of the steps 0 to 24 of algo-1 are missing" in text for text in analysis.problems)


def test_a_clock_that_was_set_back_keeps_durations_and_order(tmp_path: Path) -> None:
    samples.timeline(tmp_path, steps=20)
    samples.timeline(tmp_path, steps=20, first=20, begin_s=samples.BEGIN_S - 3600, initialisation_s=0)
    analysis = analysed(tmp_path)
    assert any("The clock of algo-1 was set back by 360" in text for text in analysis.problems)
    ordered = analysis.steps.sort_values("start_s")
    assert list(ordered["step"]) == list(range(40))
    assert analysis.steps["duration_s"].max() == pytest.approx(0.09, abs=1e-3)
    assert analysis.summary is not None
    assert analysis.summary.initialization_s == pytest.approx(1.0, abs=1e-3)  # validations and the end move along
    assert analysis.summary.duration_s < 10
    assert [verdict.rule for verdict in analysis.verdicts if verdict.fired] == []
    shown(analysis)


def test_a_clock_that_was_set_forward_is_told_as_a_pause(tmp_path: Path) -> None:
    samples.timeline(tmp_path, steps=20)
    samples.timeline(tmp_path, steps=20, first=20, begin_s=samples.BEGIN_S + 3600, initialisation_s=0)
    assert any("lie between two steps of algo-1, before step 20" in text for text in analysed(tmp_path).problems)


def test_of_two_runs_in_one_folder_the_last_is_shown_and_the_other_can_be_chosen(tmp_path: Path) -> None:
    samples.timeline(tmp_path, steps=30)
    samples.timeline(tmp_path, lambda _: {**samples.STEP, "Forward": 80}, steps=12, begin_s=samples.BEGIN_S + 600)
    last, first = analysed(tmp_path), analysed(tmp_path, 1)
    assert last.summary is not None
    assert first.summary is not None
    assert (first.summary.steps, last.summary.steps) == (30, 12)
    assert last.summary.initialization_s == pytest.approx(1.0, abs=1e-3)  # the second run's own
    assert first.typical_s["forward"] == pytest.approx(0.03, abs=1e-3)
    assert last.typical_s["forward"] == pytest.approx(0.08, abs=1e-3)
    assert "The folder holds 2 runs" in last.problems[-1]
    assert "There is no run 3 in the folder; the last one is shown." in analysed(tmp_path, 3).problems


def test_a_run_without_a_step_says_so(tmp_path: Path) -> None:
    samples.timeline(tmp_path, steps=0)
    analysis = analysed(tmp_path)
    assert analysis.summary is not None
    assert analysis.summary.steps == 0
    assert "The timeline has no training step." in analysis.problems
    assert "Where each step" not in shown(analysis)


def test_steps_that_take_no_time_divide_by_nothing(tmp_path: Path) -> None:
    samples.timeline(tmp_path, lambda _: dict.fromkeys(samples.STEP, 0), steps=3, initialisation_s=0, validate_every=99)
    shown(analysed(tmp_path))


def test_system_metrics_alone_make_a_report(tmp_path: Path) -> None:
    samples.system(tmp_path, {"CPUUtilization": samples.steady(40)})
    analysis = analysed(tmp_path)
    assert [row.metric for row in analysis.usage] == ["CPU"]
    assert "There is no timeline" in shown(analysis)


def test_smdebugs_own_names_are_understood(tmp_path: Path) -> None:
    """A timeline as smdebug's PyTorch hook writes it: modules as names, no wait for data in the step."""
    path = tmp_path / "framework/pevents/2025112502/1764036010000000_905-algo-1_pythontimeline.json"
    path.parent.mkdir(parents=True)
    zero = {"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros": 1764036000000000}}
    steps = [
        {"name": "Step:ModeKeys.TRAIN", "ph": "X", "pid": 1, "ts": 100_000 * step, "dur": 90_000,
         "args": {"pid": 905, "step_num": str(step)}}
        for step in range(5)
    ]  # fmt: skip
    path.write_text(json.dumps([zero, *steps]))
    analysis = analysed(tmp_path)
    assert analysis.summary is not None
    assert analysis.summary.steps == 5
    assert analysis.typical_s["other"] == pytest.approx(0.09)


def test_fifty_damaged_copies_of_a_run_all_become_reports(profile: Path) -> None:
    """Bytes overwritten and files cut at random, from a fixed seed."""
    files = [path for path in profile.rglob("*.json") if path.is_file()]
    whole = {path: path.read_bytes() for path in files}
    dice = random.Random(6)  # noqa: S311 - no secret
    for _ in range(50):
        path = dice.choice(files)
        data = bytearray(whole[path])
        for _ in range(dice.randint(1, 30)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(bytes(data[: dice.randint(1, len(data))]))
        contents.report(analysed(profile))
        path.write_bytes(whole[path])
