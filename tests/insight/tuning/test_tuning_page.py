"""What a tuning job found, judged and shown: over trials whose result is known to depend on the learning rate alone."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kennel.insight.errors import InsightError
from kennel.insight.tuning.importance import importance
from kennel.insight.tuning.study import Parameter, read

LIMIT_BYTES = 1_200_000
CHROMIUM = Path("/usr/bin/chromium")
PARAMETERS: list[dict[str, Any]] = [
    {"name": "lr", "kind": "continuous", "low": 1e-4, "high": 0.1, "scaling": "Logarithmic"},
    {"name": "epochs", "kind": "integer", "low": 2, "high": 9, "scaling": "Linear"},
    {"name": "batch_size", "kind": "categorical", "values": ["16", "32", "64"]},
]


def study(folder: Path, *, trials: int = 20, parameters: list[dict[str, Any]] = PARAMETERS, **changes: Any) -> Path:
    rng, made = random.Random(4), []  # noqa: S311 - no secret
    for number in range(1, trials + 1):
        lr = 10 ** rng.uniform(-4, -1)
        tried = {"lr": repr(lr), "epochs": str(rng.randint(2, 9)), "batch_size": rng.choice(["16", "32", "64"])}
        why = {3: "stopped early", 4: "pruned by ExplodingTensor", 5: "failed: <b>out</b> of memory"}.get(
            number, "completed"
        )
        value = None if number == 5 else 0.95 - 0.05 * (math.log10(lr) + 2.5) ** 2
        made.append(
            {"number": number, "name": f"t{number}", "why": why, "hyperparameters": tried, "value": value,
             "begun_s": 20.0 * number, "seconds": 15.0}
        )  # fmt: skip
    values = {
        "tuning_job": "kennel-tune-<1>", "status": "Completed", "strategy": "Bayesian", "created": "2026-11-25T03:00",
        "objective": {"metric": "validation_accuracy", "maximize": True}, "seconds": 500.0, "parameters": parameters,
        "static": {"arch": "resnet18"}, "trials": made, **changes,
    }  # fmt: skip
    file = folder / "tuning.json"
    file.write_text(json.dumps(values))
    return file


def insight(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "kennel.insight", "tuning", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_what_decides_the_result_has_nearly_all_of_the_importance(tmp_path: Path) -> None:
    shares, remark = importance(read(study(tmp_path)))
    assert remark == ""
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda name: shares[name]) == "lr"
    assert shares["lr"] > 0.5
    assert importance(read(study(tmp_path)))[0] == shares


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trials": 4}, "Importance needs 5 trials with a result; there are 4."),
        ({"trials": 0}, "there are 0"),
    ],
)
def test_too_few_trials_have_no_importance(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    shares, remark = importance(read(study(tmp_path, **changes)))
    assert shares == {}
    assert said in remark


def test_equal_results_make_nothing_important(tmp_path: Path) -> None:
    values = json.loads(study(tmp_path).read_text())
    for trial in values["trials"]:
        trial["value"] = 0.5
    (tmp_path / "equal.json").write_text(json.dumps(values))
    shares, remark = importance(read(tmp_path / "equal.json"))
    assert shares == {}
    assert "same result" in remark


def test_a_logarithmic_axis_has_a_tick_a_decade_and_places_in_between() -> None:
    lr = Parameter("lr", "continuous", 1e-4, 0.1, "Logarithmic")
    assert [label for _, label in lr.ticks()] == ["0.0001", "0.001", "0.01", "0.1"]
    assert lr.place("0.01") == pytest.approx(2 / 3)
    assert Parameter("lr", "continuous", 1e-4, 0.1).is_log  # Auto, over three decades
    assert not Parameter("hflip", "continuous", 0.0, 1.0).is_log
    assert [label for _, label in Parameter("epochs", "integer", 2, 4, "Linear").ticks()] == ["2", "3", "4"]
    assert Parameter("b", "categorical", values=("16", "32", "64")).place("32") == 0.5
    assert lr.place("5") == 1.0  # of a warm start with a wider range


def test_the_page_has_every_part_and_needs_no_network(tmp_path: Path) -> None:
    insight(study(tmp_path), "--output", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert re.findall(r'<section id="(\w+)">', page) == [
        "summary",
        "parallel",
        "time",
        "importance",
        "slices",
        "trials",
    ]
    assert set(json.loads(re.search(r'id="charts">(.*?)</script>', page).group(1))["specs"]) == {  # type: ignore[union-attr]
        "parallel", "time", "importance", "slice-0", "slice-1", "slice-2",
    }  # fmt: skip
    assert "kennel-tune-&lt;1&gt;" in page
    assert "&lt;b&gt;out&lt;/b&gt;" in page
    assert "Tuning report" in page
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"?https?:", page)
    assert len(page) < LIMIT_BYTES


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_a_job_with_hardly_a_trial_has_a_page_too(tmp_path: Path, trials: int) -> None:
    done = insight(study(tmp_path, trials=trials), "--output", tmp_path / "page.html", "--json")
    said = json.loads(done.stdout)
    assert said["importance"] == {}
    assert ("No trial has a result." in (tmp_path / "page.html").read_text()) == (trials == 0)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"parameters": 3}'])
def test_a_file_that_is_no_tuning_job_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InsightError, match="does not describe a tuning job"):
        read(tmp_path / "x.json")
    assert "does not describe a tuning job" in insight(tmp_path / "x.json", code=1).stderr
    assert "cannot be read" in insight(tmp_path / "nowhere.json", code=1).stderr


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_draws_the_page_without_an_error(tmp_path: Path, scheme: str) -> None:
    from playwright.sync_api import sync_playwright

    insight(study(tmp_path), "--output", tmp_path / "page.html")
    said: list[str] = []
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=60_000)
        assert page.get_attribute("html", "data-drawn") == "6"
        lines = page.locator("#chart-parallel path[stroke-width='1.8']").count()
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        browser.close()
    assert said == []
    assert lines == 19  # one failed
    assert overflow <= 0
