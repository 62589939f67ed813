from pathlib import Path

import pytest

from kennel.classifier.contract import ContainerPaths, atomic_write, write_json
from kennel.classifier.errors import ConfigError


def test_the_base_folder_comes_from_the_environment() -> None:
    assert ContainerPaths.from_environ({}).model_dir == Path("/opt/ml/model")
    assert ContainerPaths.from_environ({"SAGEMAKER_BASE_DIR": "/job"}).failure_file == Path("/job/output/failure")


def test_the_failure_file_keeps_what_describe_training_job_returns(tmp_path: Path) -> None:
    paths = ContainerPaths(tmp_path)
    paths.write_failure("x" * 3000)
    assert paths.failure_file.read_text() == "x" * 1024


def test_values_that_are_no_strings_are_read_as_json(tmp_path: Path) -> None:
    paths = ContainerPaths(tmp_path)
    write_json(paths.hyperparameters_file, {"epochs": 3, "arch": "resnet18"})
    assert paths.read_hyperparameters() == {"epochs": "3", "arch": "resnet18"}


@pytest.mark.parametrize(("text", "sentence"), [("{", "not valid JSON"), ("[]", "holds a JSON list")])
def test_a_damaged_hyperparameter_file_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    paths = ContainerPaths(tmp_path)
    paths.config_dir.mkdir(parents=True)
    paths.hyperparameters_file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        paths.read_hyperparameters()


def test_an_interrupted_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"
