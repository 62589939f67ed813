import logging
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kennel.classifier.data.folder import ImageFolder, scan
from kennel.classifier.data.inputs import Inputs, find_inputs
from kennel.classifier.data.loader import TrainingImages
from kennel.classifier.data.preprocess import Preprocessing
from kennel.classifier.training.channels import load_channels
from kennel.contract.errors import DataError
from kennel.contract.files import write_json
from kennel.contract.hyperparameters import TrainConfig
from kennel.contract.paths import ContainerPaths
from tests.classifier.test_pipe import WRITER, pairs
from tests.conftest import make_photos

pytestmark = pytest.mark.pure


def below(base: Path, inputs: Inputs) -> dict[str, str]:
    return {name: path.relative_to(base / "input/data").as_posix() for name, path in inputs.channels.items()}


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """A job whose one channel is a data set as it was downloaded."""
    for seed, name in enumerate(("train", "valid", "test")):
        make_photos(tmp_path / "input/data/train/dogImages" / name, images=4, seed=seed)
    return tmp_path


def test_a_job_of_channels_is_taken_as_it_is(job: Path) -> None:
    assert below(job, find_inputs(ContainerPaths(job))) == {
        "train": "train", "validation": "validation", "test": "test",
    }  # fmt: skip


def test_one_channel_that_is_a_download_becomes_three(download: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert below(download, find_inputs(ContainerPaths(download))) == {
        "train": "train/dogImages/train",
        "validation": "train/dogImages/valid",
        "test": "train/dogImages/test",
    }
    assert len(caplog.records) == 1
    assert "valid/ is the channel validation" in caplog.text


def test_a_job_trains_on_a_download(download: Path) -> None:
    channels = load_channels(TrainConfig(), ContainerPaths(download))
    assert [len(channels.train), len(channels.validation), len(channels.test or ())] == [8, 8, 8]
    assert channels.validation_source == "channel"


def test_a_jobs_own_channel_comes_before_the_downloads(download: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    make_photos(download / "input/data/validation")
    found = below(download, find_inputs(ContainerPaths(download)))
    assert (found["validation"], found["test"]) == ("validation", "train/dogImages/test")
    assert "valid/ is not used, the job has its own channel validation" in caplog.text


def test_a_download_given_to_every_channel_gives_each_its_part(download: Path) -> None:
    data = download / "input/data"
    for name in ("validation", "test"):
        shutil.copytree(data / "train", data / name)
    assert below(download, find_inputs(ContainerPaths(download))) == {
        "train": "train/dogImages/train",
        "validation": "validation/dogImages/valid",
        "test": "test/dogImages/test",
    }


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Names with times of change; a folder's time changes when anything is made in it, even if that is removed."""
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in [folder, *folder.rglob("*")]}


def views(folder: ImageFolder) -> list[int]:
    images = TrainingImages(folder, Preprocessing(40, 32), min_crop_area=0.25, seed=0)
    return [int(images[(1, index)][1]) for index in range(len(folder))]


def test_fastfile_is_read_and_never_written(job: Path) -> None:
    """FastFile mounts the same path read-only; the superuser may write in spite of modes, so times are compared."""
    data = job / "input/data"
    modes = {entry: stat.S_IMODE(entry.stat().st_mode) for entry in [data, *data.rglob("*")]}
    for entry in modes:
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    write_json(
        job / "input/config/inputdataconfig.json", {"train": {"TrainingInputMode": "FastFile"}, "validation": {}}
    )
    before = snapshot(data)
    try:
        channels = load_channels(TrainConfig(), ContainerPaths(job))
        assert views(channels.train) == [0] * 12 + [1] * 12
        assert snapshot(data) == before
    finally:
        for entry, mode in modes.items():
            entry.chmod(mode)


def test_a_job_in_pipe_mode_reads_its_fifos(photos: Path, tmp_path: Path) -> None:
    paths = ContainerPaths(tmp_path / "job")
    entry = {"TrainingInputMode": "Pipe", "RecordWrapperType": "RecordIO"}
    write_json(paths.input_data_config_file, {"train": entry, "validation": entry})
    (tmp_path / "stream").write_bytes(pairs(photos))
    paths.channels_dir.mkdir(parents=True)
    writers = []
    for name in ("train", "validation"):
        os.mkfifo(paths.pipe(name))
        command = [sys.executable, "-c", WRITER, str(tmp_path / "stream"), str(paths.pipe(name))]
        writers.append(subprocess.Popen(command))
    channels = load_channels(TrainConfig(), paths)
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert (channels.train.counts(), channels.validation.counts()) == ([6, 6], [6, 6])
    assert paths.scratch_dir in channels.train.samples[0].path.parents


@pytest.mark.parametrize("name", ["pretrained", "classes"])
def test_a_channel_of_files_cannot_be_a_pipe(job: Path, name: str) -> None:
    write_json(job / "input/config/inputdataconfig.json", {name: {"TrainingInputMode": "Pipe"}})
    with pytest.raises(DataError, match=f"Channel '{name}' is in Pipe mode.*Set its InputMode to File"):
        find_inputs(ContainerPaths(job))


def shard(job: Path, host: str = "algo-1", hosts: tuple[str, ...] = ("algo-1", "algo-2")) -> ContainerPaths:
    paths = ContainerPaths(job)
    write_json(paths.input_data_config_file, {"train": {"S3DistributionType": "ShardedByS3Key"}})
    write_json(paths.resource_config_file, {"current_host": host, "hosts": list(hosts)})
    return paths


def test_a_sharded_channel_needs_a_class_list(job: Path) -> None:
    with pytest.raises(DataError, match="ShardedByS3Key over 2 hosts.*Add a channel 'classes'.*classes.txt"):
        find_inputs(shard(job))


def test_one_host_sees_every_file_of_a_sharded_channel(job: Path) -> None:
    assert find_inputs(shard(job, hosts=("algo-1",))).classes is None


def write_classes(job: Path, text: str) -> None:
    (job / "input/data/classes").mkdir()
    (job / "input/data/classes/classes.txt").write_text(text)


def test_a_class_that_a_host_does_not_have_shifts_no_index(job: Path) -> None:
    """Two hosts, each with one class: they agree on what each class number means."""
    write_classes(job, "amber\nblue\r\n\nred\n")
    data = job / "input/data"
    targets = {}
    for host, other in (("algo-1", "red"), ("algo-2", "blue")):
        kept = data.parent / f"{host}-{other}"
        (data / "train" / other).rename(kept)
        channels = load_channels(TrainConfig(), shard(job, host))
        assert channels.train.classes == ("amber", "blue", "red")
        assert channels.sharded
        targets[host] = {sample.target for sample in channels.train.samples}
        kept.rename(data / "train" / other)
    assert targets == {"algo-1": {1}, "algo-2": {2}}


def test_a_sharded_job_is_judged_on_images_that_every_host_has(job: Path) -> None:
    write_classes(job, "blue\nred\n")
    paths = shard(job, "algo-1")
    write_json(
        paths.input_data_config_file,
        {name: {"S3DistributionType": "ShardedByS3Key"} for name in ("train", "validation")},
    )
    with pytest.raises(DataError, match="'validation' is ShardedByS3Key.*Use FullyReplicated"):
        load_channels(TrainConfig(), paths)
    shutil.rmtree(job / "input/data/validation")
    shard(job, "algo-1")
    with pytest.raises(DataError, match="Add a channel 'validation', FullyReplicated"):
        load_channels(TrainConfig(), paths)


def test_a_class_list_orders_the_classes_of_any_job(job: Path) -> None:
    write_classes(job, "red\nblue\n")
    assert load_channels(TrainConfig(), ContainerPaths(job)).train.classes == ("red", "blue")


def test_a_folder_that_the_class_list_does_not_have_is_refused(job: Path) -> None:
    write_classes(job, "Red\nblue\n")
    with pytest.raises(DataError, match=r"'red' \(did you mean 'Red'\?\)"):
        load_channels(TrainConfig(), ContainerPaths(job))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("red\nblue\nred\n", "names classes twice: red"), ("red\n", "names 1 classes"), ("", "names 0 classes")],
)
def test_a_class_list_that_cannot_be_used_is_named(job: Path, text: str, sentence: str) -> None:
    write_classes(job, text)
    with pytest.raises(DataError, match=sentence):
        find_inputs(ContainerPaths(job))


def test_a_classes_channel_without_its_file_is_named(job: Path) -> None:
    (job / "input/data/classes").mkdir()
    with pytest.raises(DataError, match=r"has no classes.txt \(it holds nothing\).*FullyReplicated"):
        find_inputs(ContainerPaths(job))


def test_a_list_is_found_where_the_images_are(job: Path) -> None:
    train = job / "input/data/train"
    rows = [f"0\t{p.parent.name}\t{p.relative_to(train)}\n" for p in sorted(train.rglob("*.jpg"))]
    (train / "train.lst").write_text("".join(rows))
    assert load_channels(TrainConfig(), ContainerPaths(job)).train.counts() == scan(train).counts() == [12, 12]


def test_a_list_decides_over_folders_that_look_like_channels(download: Path) -> None:
    train = download / "input/data/train"
    rows = [f"0\t{p.parent.name}\t{p.relative_to(train)}\n" for p in sorted(train.rglob("*.jpg"))]
    (train / "all.lst").write_text("".join(rows))
    assert below(download, find_inputs(ContainerPaths(download))) == {"train": "train"}
    assert scan(train).counts() == [12, 12]
