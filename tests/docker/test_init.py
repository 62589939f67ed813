"""Process 1 of the train image, with the real toolkit below it and programs of our own."""

from __future__ import annotations

import json
import tarfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.images import docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

Start = Callable[..., list[str]]


@pytest.fixture
def start(train_image: str, tmp_path: Path) -> Start:
    """The docker arguments that run a program as a job, under a name of its own."""

    def arguments(program: str, *options: str) -> list[str]:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(program))
        return [
            "run", "--network=none", f"--name={tmp_path.name}", f"--volume={path}:/opt/ml/code/program.py:ro",
            "--env=SAGEMAKER_PROGRAM=program.py", *options, train_image, "train",
        ]  # fmt: skip

    return arguments


@pytest.fixture
def name(tmp_path: Path) -> Iterator[str]:
    yield tmp_path.name
    docker("rm", "--force", "--volumes", tmp_path.name, check=False)


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The docker argument that mounts the files that SageMaker writes before a job."""
    folder = tmp_path / "config"
    folder.mkdir()
    hosts = {"current_host": "localhost", "hosts": ["localhost"]}
    for kind, content in {"hyperparameters": {}, "inputdataconfig": {}, "resourceconfig": hosts}.items():
        (folder / f"{kind}.json").write_text(json.dumps(content))
    return f"--volume={folder}:/opt/ml/input/config:ro"


def wait_for_log(name: str, text: str) -> None:
    for _ in range(600):
        if text in docker("logs", name, check=False).stdout:
            return
        time.sleep(0.1)
    pytest.fail(f"'{text}' was not logged in 60 s: {docker('logs', name).stdout}")


def exit_code(name: str) -> int:
    return int(docker("inspect", "--format={{.State.ExitCode}}", name).stdout)


def stop(name: str, grace_s: int = 60) -> float:
    """Stop as StopTrainingJob does and return how long it took."""
    begin = time.monotonic()
    docker("stop", f"--time={grace_s}", name)
    return time.monotonic() - begin


SAVES_WHEN_STOPPED = """
    import signal, sys, time

    def stop(signum, frame):
        print(f"saved after signal {signum}", flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    print("running", flush=True)
    time.sleep(600)
"""


def test_stop_reaches_the_program_which_may_still_save(start: Start, name: str) -> None:
    docker(*start(SAVES_WHEN_STOPPED, "--detach"))
    wait_for_log(name, "running")
    assert stop(name) < 10
    assert "saved after signal 15" in docker("logs", name).stdout
    assert exit_code(name) == 0


def test_without_our_process_1_the_program_never_hears_of_a_stop(start: Start, name: str, config: str) -> None:
    *arguments, image, _ = start(SAVES_WHEN_STOPPED, "--detach", "--entrypoint=train", config)
    docker(*arguments, image)
    wait_for_log(name, "running")
    assert stop(name, grace_s=3) >= 3
    assert "saved" not in docker("logs", name).stdout
    assert exit_code(name) == 137


def test_stop_spares_the_data_loaders_workers(start: Start, name: str) -> None:
    program = """
        import signal, sys, torch

        stopping = []
        signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))

        class Endless(torch.utils.data.IterableDataset):
            def __iter__(self):
                while True:
                    yield torch.zeros(8)

        for number, batch in enumerate(torch.utils.data.DataLoader(Endless(), batch_size=4, num_workers=2)):
            if number == 10:
                print("running", flush=True)
            if stopping:
                print("saved", flush=True)
                break
    """
    docker(*start(program, "--detach"))
    wait_for_log(name, "running")
    assert stop(name) < 15
    assert "saved" in docker("logs", name).stdout
    assert exit_code(name) == 0


def test_program_without_a_handler_ends_at_once(start: Start, name: str) -> None:
    docker(*start("import time; print('running', flush=True); time.sleep(600)", "--detach"))
    wait_for_log(name, "running")
    assert stop(name) < 10
    assert exit_code(name) == 1  # the toolkit reports a failed program


def test_program_that_fails_fails_the_container(start: Start, name: str, tmp_path: Path) -> None:  # noqa: ARG001
    output = tmp_path / "output"
    arguments = start("import sys; sys.exit(3)", f"--volume={output}:/opt/ml/output")
    done = docker(*arguments, check=False)
    assert done.returncode == 1
    assert "ExitCode 3" in (output / "failure").read_text()


def test_program_that_succeeds_gets_arguments_and_environment(start: Start, name: str, tmp_path: Path) -> None:  # noqa: ARG001
    config = tmp_path / "hyperparameters.json"
    config.write_text('{"epochs": "3"}')
    mount = f"--volume={config}:/opt/ml/input/config/hyperparameters.json:ro"
    program = "import os, sys; print(sys.argv[1:], os.environ['SM_MODEL_DIR'], os.path.isdir('/opt/ml/model'))"
    done = docker(*start(program, mount))
    assert "['--epochs', '3'] /opt/ml/model True" in done.stdout


TELL = "import json, os, sys; print('ours', sys.argv[1:], os.environ['SM_HPS'], flush=True)"


def run_job(image: str, base: Path, *options: str, **given: str) -> tuple[int, str, str]:
    """Exit status, what was written, and the failure file, of a job with these hyperparameters."""
    (base / "config").mkdir(parents=True)
    (base / "config/hyperparameters.json").write_text(json.dumps(given))
    mounts = [f"--volume={base}/config/hyperparameters.json:/opt/ml/input/config/hyperparameters.json:ro"]
    mounts.append(f"--volume={base}/output:/opt/ml/output")
    done = docker("run", "--rm", "--network=none", *mounts, *options, image, "train", check=False)
    failure = base / "output/failure"
    return done.returncode, done.stdout + done.stderr, failure.read_text() if failure.exists() else ""


def test_a_jobs_own_program_runs_though_it_has_the_trainers_name(train_image: str, tmp_path: Path) -> None:
    """By hyperparameters, as SageMaker's SDKs send them; the folder comes as a channel, as an archive."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/train.py").write_text(TELL)
    with tarfile.open(tmp_path / "own/sourcedir.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "own/train.py", "train.py")
    mount = f"--volume={tmp_path}/own:/opt/ml/input/data/code:ro"
    for number, directory in enumerate(("/opt/ml/input/data/code", "file:///opt/ml/input/data/code/sourcedir.tar.gz")):
        named = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": json.dumps(directory)}
        given = {"batch-size": "32", "lr": '"0.1"', "sagemaker_container_log_level": "20"}
        status, output, failure = run_job(train_image, tmp_path / str(number), mount, **named, **given)
        assert (status, failure) == (0, ""), output
        assert """ours ['--batch-size', '32', '--lr', '0.1'] {"batch-size":32,"lr":"0.1"}""" in output


def test_a_program_that_stands_at_its_place_runs_by_hyperparameter_or_by_variable(
    train_image: str, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(f"print('ours', '{name}')")
    mounts = [f"--volume={tmp_path}/{name}.py:/opt/ml/code/{name}.py:ro" for name in ("one", "two")]
    assert "ours one" in run_job(train_image, tmp_path / "1", *mounts, sagemaker_program="one.py")[1]
    variable = "--env=SAGEMAKER_PROGRAM=two.py"
    assert "ours two" in run_job(train_image, tmp_path / "2", *mounts, variable, sagemaker_program="one.py")[1]


def test_what_a_program_lacks_is_said_in_one_sentence(train_image: str, tmp_path: Path) -> None:
    status, output, failure = run_job(train_image, tmp_path / "1", sagemaker_program="gone.py")
    assert (status, "Traceback" in output) == (1, False)
    assert failure.startswith("sagemaker_program is 'gone.py', and /opt/ml/code has no such file")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/train.py").write_text(TELL)
    (tmp_path / "own/requirements.txt").write_text("pyjokes\n")
    mount = f"--volume={tmp_path}/own:/opt/ml/code:ro"
    status, output, failure = run_job(train_image, tmp_path / "2", mount, sagemaker_program="train.py")
    assert (status, "Traceback" in output, "ours" in output) == (1, False, False)
    assert failure.startswith("The program's requirements.txt asks for packages")


@pytest.mark.parametrize("name", ["batch-size", "batch_size"])
def test_a_hyperparameter_of_the_trainer_is_taken_once(train_image: str, tmp_path: Path, name: str) -> None:
    given = {name: '"32"', "epochs": "0", "sagemaker_region": "eu-central-1", "sagemaker_job_name": "job"}
    status, _, failure = run_job(train_image, tmp_path, **given)
    assert (status, failure) == (1, "Hyperparameter 'epochs' has value '0'. Use a number in 1..10000.")


def test_a_hyperparameter_in_two_spellings_is_one_clear_error(train_image: str, tmp_path: Path) -> None:
    status, _, failure = run_job(train_image, tmp_path, **{"batch-size": "32", "batch_size": "64"})
    assert status == 1
    assert failure.startswith("Hyperparameter 'batch-size' has value '32' and, as 'batch_size', value '64'.")


def test_orphans_leave_no_zombies(start: Start, name: str) -> None:  # noqa: ARG001
    program = """
        import pathlib, subprocess, time

        for _ in range(5):
            subprocess.run(["sh", "-c", "sleep 0.2 & exec true"], check=True)  # its parent is gone before it ends
        time.sleep(1.5)
        states = [path.read_text().rpartition(")")[2].split()[0] for path in pathlib.Path("/proc").glob("[0-9]*/stat")]
        print("zombies:", states.count("Z"), flush=True)
    """
    assert "zombies: 0" in docker(*start(program)).stdout


def test_killed_program_does_not_hang_the_container(start: Start, name: str) -> None:  # noqa: ARG001
    done = docker(*start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), check=False)
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", [[], ["serve"], ["train", "--epochs", "3"]], ids=" ".join)
def test_any_other_argument_is_answered_with_one_sentence(train_image: str, arguments: list[str]) -> None:
    done = docker("run", "--rm", train_image, *arguments, check=False)
    assert done.returncode == 2
    assert "takes the one argument 'train'" in done.stderr
    assert "Traceback" not in done.stderr


def test_container_entrypoint_may_be_overridden(start: Start, name: str, config: str) -> None:  # noqa: ARG001
    *arguments, image, _ = start("print('ran')", "--entrypoint=train", config)
    assert "ran\n" in docker(*arguments, image).stdout
