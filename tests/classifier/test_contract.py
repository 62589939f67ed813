from pathlib import Path

import pytest

from kennel.contract.errors import ConfigError
from kennel.contract.files import atomic_write, write_json
from kennel.contract.paths import ChannelConfig, ContainerPaths, Hosts

pytestmark = pytest.mark.pure


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


def test_channels_say_how_they_are_delivered(tmp_path: Path) -> None:
    paths = ContainerPaths(tmp_path)
    entry = {"TrainingInputMode": "Pipe", "S3DistributionType": "ShardedByS3Key", "RecordWrapperType": "RecordIO"}
    write_json(paths.input_data_config_file, {"train": entry, "test": {"TrainingInputMode": "FastFile"}})
    assert paths.read_channel_configs() == {
        "train": ChannelConfig("Pipe", "ShardedByS3Key", "RecordIO"),
        "test": ChannelConfig("FastFile", "FullyReplicated", "None"),
    }
    assert paths.pipe("train") == tmp_path / "input/data/train_0"


def test_hosts_are_the_same_in_any_order_of_the_file(tmp_path: Path) -> None:
    paths = ContainerPaths(tmp_path)
    write_json(paths.resource_config_file, {"current_host": "algo-2", "hosts": ["algo-2", "algo-1"]})
    assert paths.read_hosts() == Hosts("algo-2", ("algo-1", "algo-2"))
    assert paths.read_hosts().rank == 1


def test_without_the_platforms_files_there_is_one_host_and_file_mode(tmp_path: Path) -> None:
    assert ContainerPaths(tmp_path).read_channel_configs() == {}
    assert len(ContainerPaths(tmp_path).read_hosts().names) == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [([], "holds a JSON list"), ({"current_host": "algo-3", "hosts": ["algo-1"]}, "current_host is 'algo-3'"),
     ({"current_host": "algo-1", "hosts": "algo-1"}, "hosts is \"algo-1\"")],
)  # fmt: skip
def test_damaged_hosts_are_named(tmp_path: Path, values: object, sentence: str) -> None:
    paths = ContainerPaths(tmp_path)
    write_json(paths.resource_config_file, values)
    with pytest.raises(ConfigError, match=sentence):
        paths.read_hosts()


def test_a_damaged_channel_is_named(tmp_path: Path) -> None:
    paths = ContainerPaths(tmp_path)
    write_json(paths.input_data_config_file, {"train": "File"})
    with pytest.raises(ConfigError, match="channel 'train' is \"File\"; write an object"):
        paths.read_channel_configs()
