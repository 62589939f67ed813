"""The user's own program instead of the trainer, as a plain process: what the toolkit does in the image."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from kennel.classifier.processes.program import Program, arguments, find_program, place
from kennel.contract.errors import ConfigError
from kennel.contract.files import write_json
from kennel.contract.paths import ContainerPaths

TELL = """
    import json, os, sys
    variables = {name: value for name, value in os.environ.items() if name.startswith("SM_")}
    print("ours", json.dumps([sys.argv, os.getcwd(), variables]), flush=True)
"""
GIVEN = {
    "batch-size": "32",
    "lr": '"0.1"',
    "flag": "true",
    "empty": "null",
    "map": '{"a": 1}',
    "x": "-1",
}


def code(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


def archive(folder: Path, target: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(target, mode) as tar:
        for path in folder.iterdir():
            tar.add(path, path.name)
    return target


def start(base: Path, *flags: str, environ: dict[str, str] | None = None, **given: str) -> subprocess.Popen[str]:
    """What the process runner starts for a job with these hyperparameters."""
    paths = ContainerPaths(base)
    write_json(paths.hyperparameters_file, given)
    write_json(paths.input_data_config_file, {"train": {"TrainingInputMode": "File"}})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "SAGEMAKER_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "kennel.classifier", "train", *flags],
        env={**kept, "SAGEMAKER_BASE_DIR": str(base), "PYTHONUNBUFFERED": "1", **(environ or {})},
        cwd=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def told(output: str) -> Any:
    return json.loads(next(line for line in output.splitlines() if line.startswith("ours "))[5:])


@pytest.mark.parametrize(
    "way", ["folder", "its place", "file uri", "channel", "archive", "archive uri", "plain tar", "file"]
)
def test_the_program_runs_with_its_own_arguments_and_variables(tmp_path: Path, way: str) -> None:
    base = tmp_path / "job"
    there = {
        "folder": lambda: str(code(tmp_path / "own", mine=TELL)),
        "its place": lambda: code(base / "code", mine=TELL) and "/opt/ml/code",
        "file uri": lambda: code(tmp_path / "o n", mine=TELL).as_uri(),
        "channel": lambda: code(base / "input/data/code", mine=TELL) and "/opt/ml/input/data/code",
        "archive": lambda: str(archive(code(tmp_path / "own", mine=TELL), tmp_path / "sourcedir.tar.gz")),
        "archive uri": lambda: archive(code(tmp_path / "own", mine=TELL), tmp_path / "sourcedir.tar.gz").as_uri(),
        "plain tar": lambda: str(archive(code(tmp_path / "own", mine=TELL), tmp_path / "own.tar", "w")),
        "file": lambda: str(code(tmp_path / "own", mine=TELL) / "mine.py"),
    }[way]()
    status, output = finish(
        start(base, sagemaker_program='"mine.py"', sagemaker_submit_directory=json.dumps(there),
              sagemaker_container_log_level="20", **GIVEN)
    )  # fmt: skip
    assert status == 0, output
    argv, folder, variables = told(output)
    assert argv[1:] == [
        "--batch-size", "32", "--empty", "", "--flag", "True", "--lr", "0.1", "--map", "a=1", "-x", "-1",
    ]  # fmt: skip
    assert folder == str((base / "code").resolve())
    assert variables["SM_HP_BATCH-SIZE"] == "32"
    assert variables["SM_HP_LR"] == "0.1"
    assert json.loads(variables["SM_HPS"])["map"] == {"a": 1}
    assert json.loads(variables["SM_USER_ARGS"]) == argv[1:]
    assert json.loads(variables["SM_CHANNELS"]) == ["train"]
    assert variables["SM_MODEL_DIR"] == str(base / "model")
    assert variables["SM_CHANNEL_TRAIN"] == str(base / "input/data/train")


def test_arguments_are_those_of_the_toolkit() -> None:
    mapping = pytest.importorskip("sagemaker_training.mapping")
    values = {
        "batch-size": 32,
        "n": 1,
        "flag": True,
        "none": None,
        "map": {"b": 1, "a": "x"},
        "list": [1, "a"],
        "f": 1e-3,
    }
    assert arguments(values) == mapping.to_cmd_args(values)


def test_without_a_program_the_trainer_runs(tmp_path: Path) -> None:
    status, output = finish(start(tmp_path, epochs="0", sagemaker_region="eu-central-1", sagemaker_job_name="a"))
    assert status == 1
    assert output == "error: Hyperparameter 'epochs' has value '0'. Use a number in 1..10000.\n"


def test_the_program_may_start_the_trainer(tmp_path: Path) -> None:
    wrapper = """
        import subprocess, sys
        print("first ours", flush=True)
        sys.exit(subprocess.call([sys.executable, "-m", "kennel.classifier", "train", *sys.argv[1:]]))
    """
    code(tmp_path / "code", train=wrapper)
    status, output = finish(start(tmp_path, sagemaker_program="train.py", epochs="0"))
    assert status == 1
    assert output.count("first ours") == 1
    assert "error: Hyperparameter 'epochs' has value '0'." in output


@pytest.mark.parametrize("variable", ["variable.py", ""])
def test_a_variable_of_the_request_counts_more_than_a_hyperparameter(tmp_path: Path, variable: str) -> None:
    code(tmp_path / "code", variable="print('by variable')", parameter="print('by hyperparameter')")
    started = start(tmp_path, environ={"SAGEMAKER_PROGRAM": variable}, sagemaker_program="parameter.py")
    assert ("by variable" if variable else "by hyperparameter") in finish(started)[1]


def test_its_exit_status_and_a_stop_reach_whom_they_should(tmp_path: Path) -> None:
    program = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(7)))
        print("running", flush=True)
        time.sleep(100)
    """
    code(tmp_path / "code", mine=program)
    process = start(tmp_path, sagemaker_program="mine.py")
    assert process.stdout is not None
    while "running" not in (line := process.stdout.readline()):
        assert line, "the program did not start"
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (7, "saved\n")


def test_a_script_that_is_not_python_runs(tmp_path: Path) -> None:
    code(tmp_path / "code")
    (tmp_path / "code/run.sh").write_text('#!/bin/sh\necho ours "$@"\n')
    assert finish(start(tmp_path, sagemaker_program="run.sh", lr="1"))[1].endswith("ours --lr 1\n")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sagemaker_program": "gone.py"}, "'gone.py', and {code} has no such file (it is empty)"),
        (
            {"sagemaker_program": "gone.py", "sagemaker_submit_directory": "{own}"},
            "has no such file (it holds a.py, b.py)",
        ),
        ({"sagemaker_program": "a.py", "sagemaker_submit_directory": "/gone"}, "is '/gone', and there is no such file"),
        ({"sagemaker_submit_directory": "{own}"}, "no sagemaker_program says which of its files to run"),
        ({"sagemaker_program": "a.py", "sagemaker_submit_directory": "s3://b/c.tar.gz"}, "cannot fetch it"),
        ({"sagemaker_program": "a.py", "sagemaker_submit_directory": "{evil}"}, "cannot be unpacked"),
        ({"sagemaker_program": "a.py", "sagemaker_submit_directory": "{wanting}"}, "requirements.txt asks for"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_said_in_one_sentence(tmp_path: Path, given: dict[str, str], sentence: str) -> None:
    own, base = code(tmp_path / "own", a="print('ours')", b=""), tmp_path / "job"
    wanting = code(tmp_path / "wanting", a="print('ours')")
    (wanting / "requirements.txt").write_text("numpy\n")
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as tar:
        tar.add(own / "a.py", "../../a.py")
    names = {"own": own, "evil": evil, "wanting": wanting, "code": base / "code"}
    status, output = finish(start(base, **{name: value.format(**names) for name, value in given.items()}))
    assert status == 1
    assert sentence.format(**names) in output
    assert output.startswith("error: ")
    assert "Traceback" not in output
    assert "ours" not in output.splitlines()
    assert sentence.format(**names) in (base / "output/failure").read_text()


def test_files_that_are_at_their_place_stay(tmp_path: Path) -> None:
    """As the toolkit has it: a mounted folder is not written over."""
    paths = ContainerPaths(tmp_path / "job")
    code(paths.code_dir, a="1")
    place(Program("a.py", str(code(tmp_path / "own", a="2", b="2"))), paths)
    assert sorted(path.name for path in paths.code_dir.iterdir()) == ["a.py"]
    assert (paths.code_dir / "a.py").read_text() == "1"


def test_a_program_is_found_where_the_toolkit_finds_it() -> None:
    quoted = {"sagemaker_program": '"a.py"', "sagemaker_submit_directory": '"s3://b/c"'}
    assert find_program(quoted, {}) == Program("a.py", "s3://b/c")
    assert find_program({}, {"SAGEMAKER_PROGRAM": "b.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/c"}) == Program("b.py", "/c")
    assert find_program(quoted, {"SM_USER_ENTRY_POINT": "a.py"}) is None
    assert find_program({"epochs": "1"}, {}) is None
    with pytest.raises(ConfigError):
        find_program({"sagemaker_submit_directory": "/c"}, {})
