"""The report's files: what they hold, how large they are, and the command that makes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import boto3
import pytest

from kennel.insight.profile import comparing, contents, writing
from kennel.insight.profile.analysis import Analysis, analyse
from kennel.insight.profile.reading import run, sources
from kennel.insight.profile.rules import RULES
from kennel.insight.report.html import page
from kennel.insight.report.pdf import pdf
from tests.insight.profile import samples
from tests.servers import moto_server, variables

LIMIT_BYTES = 5_000_000


def make_run(folder: Path, *, wait_ms: float = 60, steps: int = 40) -> Path:
    """A run with everything that a report can show but a GPU."""
    profile = folder / "profiler"
    parts = {**samples.STEP, "DataLoaderIter": wait_ms}
    samples.described(profile, num_workers=0, cpu_limit=2.0, batch_size=32, arch="resnet18", device="cpu", job="dogs")
    samples.timeline(profile, lambda _: parts, steps=steps, workers=0, load_ms=wait_ms)
    values = {"CPUUtilization": samples.steady(40), "MemoryUsedPercent": samples.steady(20)}
    samples.system(profile, values, count=12)
    learnt = {"train_accuracy": 0.9, "validation_accuracy": 0.8, "images_per_second": 250.0}
    rows = [{"epoch": n, "train_loss": 1 / n, "validation_loss": 1.1 / n, **learnt} for n in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finding = {
        "rule": "DeadRelu",
        "step": 25,
        "mode": "TRAIN",
        "sentence": "Half of it <b>is</b> dead.",
        "advice": "Lower lr.",
    }
    (folder / "findings.json").write_text(json.dumps({"rules": [{"rule": "x"}], "findings": [finding], "notes": []}))
    operators = profile / "framework/pytorch/detailed_profiling/2025112502/000000010/1-algo-1_operators.json"
    operators.parent.mkdir(parents=True)
    row = {"name": "aten::convolution", "calls": 60, "shapes": [[32, 64, 56, 56], []], "self_cpu_us": 3000.0}
    operators.write_text(json.dumps({"first_step": 10, "steps": 3, "operators": [row, {**row, "name": "aten::add_"}]}))
    return folder


def analysed(folder: Path) -> Analysis:
    return analyse(run.read(sources.find(folder), "dogs <1> & co"), usd_per_hour=0.736, price_source="a table")


def insight(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "kennel.insight", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(contents.report(analysed(make_run(tmp_path_factory.mktemp("run")))))


def test_the_report_has_every_section(html: str) -> None:
    found = re.findall(r"<section id=\"(\w+)\"><h2>([^<]*)</h2>", html)
    assert [anchor for anchor, _ in found] == [
        "advice", "summary", "steps", "time", "slow", "data", "system", "operators", "memory", "cost", "learning",
        "findings", "rules",
    ]  # fmt: skip
    assert [f'<a href="#{anchor}">' in html for anchor, _ in found] == [True] * len(found)


def test_the_first_advice_is_about_data_loading(html: str) -> None:
    change = html[html.index('class="change"') :][:800]
    assert "data loading" in change
    assert "<code>num_workers=1</code>" in change
    assert "148 → 88.0 ms a step, 1.7 times as fast" in change


def test_what_a_run_says_of_itself_cannot_become_markup(html: str) -> None:
    assert "<title>dogs &lt;1&gt; &amp; co" in html
    assert "Half of it &lt;b&gt;is&lt;/b&gt; dead." in html
    assert "dogs <1>" not in html


def test_nothing_is_fetched_and_nothing_may_be(html: str) -> None:
    body = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:,)[^"']+""", body)
    assert "default-src 'none'" in html


def test_a_report_of_five_thousand_steps_is_small(tmp_path: Path) -> None:
    text = page(contents.report(analysed(make_run(tmp_path, steps=5000))))
    assert len(text.encode()) < LIMIT_BYTES


def test_a_pdf_has_pages_and_the_pictures_of_all_charts(tmp_path: Path) -> None:
    document = contents.report(analysed(make_run(tmp_path)))
    data = pdf(document)
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type /Page\b", data)) >= 3
    assert len(re.findall(rb"/Subtype /Image\b", data)) >= len(document.figures)
    assert len(data) < LIMIT_BYTES


def test_a_pdf_takes_names_in_any_script(tmp_path: Path) -> None:
    """Letters are found by the tables that a PDF has for copying its text (ISO 32000-1, 9.10.3)."""
    samples.timeline(tmp_path, steps=3)

    def drawn(name: str) -> tuple[bytes, bytes]:
        data = pdf(contents.report(analyse(run.read(sources.find(tmp_path), name))))
        return data, b"".join(
            zlib.decompress(stream) if stream.startswith(b"\x78") else stream
            for stream in re.findall(rb"stream\n(.*?)\nendstream", data, re.DOTALL)
        )

    wide, letters = drawn("собаки 犬 🐶")
    assert b"DejaVuSans" in wide
    assert all(f"<{ord(letter):04X}>".encode() in letters for letter in "собаки?")  # the dog has no letter in the font
    assert b"DejaVuSans" not in drawn("Hündchen")[0]  # Latin text needs none, and the file stays small


def test_every_rule_has_its_file_with_awss_members(tmp_path: Path) -> None:
    writing.write_rules(analysed(make_run(tmp_path / "run")), tmp_path / "out")
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out/profiler-report").iterdir()}
    assert set(found) == {*RULES, "Report"}
    loader = found["Dataloader"]
    assert loader["RuleTriggered"] == 1
    assert loader["Datapoints"] == 40
    assert loader["RuleParameters"] == "min_threshold:70\nmax_threshold:200\nscan_interval_us:60000000"
    assert found["Report"]["advice"][0]["change"] == "num_workers=1"


def test_two_runs_are_set_side_by_side(tmp_path: Path) -> None:
    slow, fast = analysed(make_run(tmp_path / "a")), analysed(make_run(tmp_path / "b", wait_ms=2))
    document = comparing.comparison(slow, fast)
    text = page(document)
    anchors = [section.anchor for section in document.sections]
    assert anchors == ["figures", "steps", "learning", "settings", "advice", "rules"]
    rows = dict(re.findall(r"<tr><td>(a step, mean|wait for data|validation loss)</td>(.*?)</tr>", text))
    assert re.findall(r">([^<]+)</td>", rows["a step, mean"]) == ["148 ms", "90.0 ms", "0.61 \u00d7"]
    assert re.findall(r">([^<]+)</td>", rows["wait for data"]) == ["60.0 ms", "2.0 ms", "0.03 \u00d7"]
    assert re.findall(r">([^<]+)</td>", rows["validation loss"])[-1] == "same"
    assert pdf(document).startswith(b"%PDF-")


def test_the_command_writes_files_and_prints_the_advice(tmp_path: Path) -> None:
    done = insight("report", make_run(tmp_path / "run"), "--output", tmp_path / "out", "--usd-per-hour", "0.5")
    assert "dogs: num_workers=1: 148 → 88.0 ms a step" in done.stdout
    assert (tmp_path / "out/profiler-report.html").stat().st_size < LIMIT_BYTES
    assert (tmp_path / "out/profiler-report.pdf").stat().st_size < LIMIT_BYTES
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "profiler-report", "profiler-report.html", "profiler-report.pdf",
    ]  # fmt: skip


def test_the_command_reads_output_tar_gz(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "output.tar.gz", "w:gz") as tar:
        tar.add(make_run(tmp_path / "run"), arcname=".")
    found = json.loads(insight("report", tmp_path / "output.tar.gz", "--json").stdout)
    assert found["summary"]["steps"] == 40
    assert found["run"] == "dogs"


def test_the_command_takes_a_rule_and_its_parameters(tmp_path: Path) -> None:
    given = tmp_path / "parameters.json"
    given.write_text(json.dumps({"rule_to_invoke": "StepOutlier", "stddev": "5"}))
    words = ("report", make_run(tmp_path / "run"), "--rule", "StepOutlier", "--parameters", given, "--json")
    [rule] = json.loads(insight(*words).stdout)["rules"]
    assert rule["rule"] == "StepOutlier"
    assert "stddev:5" in rule["RuleParameters"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing-there",), "nothing-there is not there. Give what a run left"),
        ((".", "--rule", "CPUBotleneck"), "did you mean 'CPUBottleneck'?"),
        ((".", "--parameters", "nothing.json"), "nothing.json is no JSON object of parameters"),
        ((__file__,), "cannot be unpacked"),
    ],
)
def test_what_is_wrong_is_one_line(words: tuple[str, ...], said: str) -> None:
    done = insight("report", *words, code=1)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_command_reads_a_prefix_in_s3_but_no_weights(tmp_path: Path) -> None:
    run_folder = make_run(tmp_path / "run")
    with moto_server(tmp_path) as url, variables(
        AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_REGION="us-east-1"  # noqa: S106 - moto's
    ):  # fmt: skip
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="dogs")
        for path in (path for path in run_folder.rglob("*") if path.is_file()):
            s3.upload_file(str(path), "dogs", f"jobs/one/{path.relative_to(run_folder)}")
        s3.put_object(Bucket="dogs", Key="jobs/one/output/model.tar.gz", Body=b"no archive")
        found = json.loads(insight("report", "s3://dogs/jobs/one/", "--json").stdout)
        nothing = insight("report", "s3://dogs/jobs/two/", code=1)
    assert found["summary"]["steps"] == 40
    assert "There is nothing at s3://dogs/jobs/two/." in nothing.stderr
