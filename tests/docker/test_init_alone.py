"""docker/train/init.py without a container: a small toolkit of our own on PATH stands in for sagemaker-training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.images import ROOT

INIT = ROOT / "docker/train/init.py"

TOOLKIT = f"""\
#!{sys.executable}
import os, pathlib, signal, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
if os.fork() == 0:  # as the toolkit's upload of intermediate output: a fork with the same command line
    signal.signal(signal.SIGTERM, lambda *_: (base / "fork-was-stopped").touch())
    while os.getppid() != 1 and not (base / "ended").exists():
        time.sleep(0.05)
    os._exit(0)
code = subprocess.call([sys.executable, str(base / "program.py")])
(base / "ended").touch()
sys.exit(code)
"""


def start(
    base: Path, program: str, toolkit: str = TOOLKIT, environ: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    (base / "program.py").write_text(textwrap.dedent(program))
    (base / "bin").mkdir()
    (base / "bin/train").write_text(toolkit)
    (base / "bin/train").chmod(0o755)
    environ = {
        **(environ or {}),
        **{name: value for name, value in os.environ.items() if not name.startswith("SAGEMAKER_")},
        "PATH": f"{base / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "SAGEMAKER_BASE_DIR": str(base),
    }
    return subprocess.Popen(
        [sys.executable, INIT, "train"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )


def finish(init: subprocess.Popen[str]) -> tuple[int, str]:
    output, errors = init.communicate(timeout=60)
    return init.returncode, output + errors


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{path.name} did not appear in 30 s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_goes_to_the_program_and_to_nothing_else(tmp_path: Path, number: signal.Signals) -> None:
    program = f"""
        import pathlib, signal, sys, time
        signal.signal({int(number)}, lambda *_: sys.exit(7))
        pathlib.Path({str(tmp_path)!r}, "running").touch()
        time.sleep(60)
    """
    init = start(tmp_path, program)
    wait_for(tmp_path / "running")
    init.send_signal(number)
    assert finish(init)[0] == 7
    assert not (tmp_path / "fork-was-stopped").exists()


def test_stop_before_the_program_runs_ends_the_toolkit(tmp_path: Path) -> None:
    init = start(tmp_path, "", toolkit=f"#!/bin/sh\ntouch {tmp_path}/running\nexec sleep 60\n")
    wait_for(tmp_path / "running")
    init.send_signal(signal.SIGTERM)
    assert finish(init)[0] == 128 + signal.SIGTERM


def test_exit_status_is_the_toolkits(tmp_path: Path) -> None:
    assert finish(start(tmp_path, "raise SystemExit(3)"))[0] == 3


def test_missing_files_of_the_platform_are_written_and_present_ones_are_kept(tmp_path: Path) -> None:
    (tmp_path / "input/data/train").mkdir(parents=True)
    (tmp_path / "input/config").mkdir()
    (tmp_path / "input/config/hyperparameters.json").write_text('{"epochs": "3"}')
    assert finish(start(tmp_path, ""))[0] == 0
    config = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "input/config").iterdir()}
    assert config["hyperparameters"] == {"epochs": "3"}
    assert config["inputdataconfig"] == {"train": {"TrainingInputMode": "File"}}
    assert config["resourceconfig"]["current_host"] in config["resourceconfig"]["hosts"]
    assert (tmp_path / "model").is_dir()
    assert (tmp_path / "output/data").is_dir()


CHOICE = "#!/bin/sh\necho program $SAGEMAKER_PROGRAM\nls $SAGEMAKER_BASE_DIR/code 2>/dev/null\nexit 0\n"


def choose(base: Path, environ: dict[str, str] | None = None, **given: str) -> tuple[int, str]:
    (base / "input/config").mkdir(parents=True)
    (base / "input/config/hyperparameters.json").write_text(json.dumps(given))
    return finish(start(base, "", toolkit=CHOICE, environ=environ))


def test_the_toolkit_is_told_the_trainer_when_a_job_names_no_program(tmp_path: Path) -> None:
    assert choose(tmp_path, epochs="1") == (0, f"program {ROOT}/docker/train/bin/train.py\n")


def test_the_toolkit_is_told_the_jobs_own_program_and_finds_its_files(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/train.py").touch()
    directory = json.dumps(f"file://{tmp_path}/own")
    given = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": directory}
    assert choose(tmp_path / "job", **given) == (0, "program train.py\ntrain.py\n")


def test_a_variable_of_the_request_counts_more(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/mine.py").touch()
    chosen = choose(tmp_path, {"SAGEMAKER_PROGRAM": "mine.py"}, sagemaker_program="other.py")
    assert chosen == (0, "program mine.py\nmine.py\n")


def test_a_program_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    status, output = choose(tmp_path, sagemaker_program="gone.py")
    assert status == 1
    assert output.startswith("error: sagemaker_program is 'gone.py', and ")
    assert "program" not in output.splitlines()
    assert "gone.py" in (tmp_path / "output/failure").read_text()
