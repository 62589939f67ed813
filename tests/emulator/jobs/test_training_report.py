"""A job without any Debugger field leaves findings and the profiler's report in its output.tar.gz."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kennel.contract.archives import unpack
from tests.conftest import make_photos
from tests.emulator.jobs.conftest import Platform, channel
from tests.emulator.jobs.test_training_kennel import SMALL, completed, start


@pytest.mark.slow
def test_a_plain_request_leaves_findings_and_report_in_the_archive(platform: Platform, tmp_path: Path) -> None:
    channels = [
        channel(name, make_photos(tmp_path / "photos" / name, images=images, seed=seed).as_uri())
        for seed, (name, images) in enumerate({"train": 8, "validation": 3}.items())
    ]
    hyperparameters = SMALL | {"train_layers": "all", "epochs": "5"}  # 4 steps an epoch
    members = {"HyperParameters": hyperparameters, "InputDataConfig": channels}
    start(platform, **members, AlgorithmSpecification={"TrainingImage": "kennel-train:abc"})
    document = completed(platform)
    assert not {"DebugHookConfig", "ProfilerConfig", "DebugRuleConfigurations"} & set(document)
    unpack(platform.output_dir() / "output.tar.gz", tmp_path / "out")
    html = (tmp_path / "out/profiler-report.html").read_text()
    assert "Where each step" in html
    assert (tmp_path / "out/profiler-report.pdf").read_bytes().startswith(b"%PDF-")
    report = json.loads((tmp_path / "out/profiler-report/Report.json").read_text())
    assert report["summary"]["steps"] == 20
    assert report["summary"]["epochs"] == 5
    assert {row["metric"] for row in report["usage"]} >= {"CPU", "memory"}
    assert "report: " in platform.log()
    findings = json.loads((tmp_path / "out/findings.json").read_text())
    assert findings["ended"]
    assert {row["rule"] for row in findings["rules"]} >= {"VanishingGradient", "DeadRelu", "Overfit"}
    assert findings["steps"] > 20  # of training and validation
