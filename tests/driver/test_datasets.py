from pathlib import Path

import pytest

from kennel.contract.errors import DataError
from kennel.driver.errors import DriverError
from kennel.driver.transfers.datasets import sources, upload_name
from kennel.driver.transfers.uris import file_uri
from tests.conftest import make_photos

pytestmark = pytest.mark.pure

BASE = "s3://dogs/kennel"


def uris(data: Path | str | None, *, local: bool = True, **extra: str) -> dict[str, str]:
    found = sources(None if data is None else str(data), extra, base_uri=BASE, local=local)
    return {source.channel.name: source.channel.uri for source in found}


def test_class_folders_are_the_train_channel(photos: Path) -> None:
    assert uris(photos) == {"train": f"{photos.as_uri()}/"}


def test_a_downloaded_layout_is_three_channels(dataset: Path) -> None:
    assert uris(dataset) == {
        "train": f"{(dataset / 'train').as_uri()}/",
        "validation": f"{(dataset / 'valid').as_uri()}/",
        "test": f"{(dataset / 'test').as_uri()}/",
    }


def test_a_named_channel_wins_and_uris_go_through(dataset: Path, photos: Path) -> None:
    found = uris(dataset, validation=str(photos), pretrained="s3://weights/resnet18/")
    assert found["validation"] == f"{photos.as_uri()}/"
    assert found["pretrained"] == "s3://weights/resnet18/"
    assert uris("s3://dogs/all/") == {"train": "s3://dogs/all/"}


def test_for_aws_each_folder_has_a_place_of_its_own(dataset: Path) -> None:
    found = sources(str(dataset), {}, base_uri=BASE, local=False)
    assert [source.folder for source in found] == [dataset / name for name in ("test", "train", "valid")]
    for source in found:
        assert source.folder is not None
        assert source.channel.uri == f"{BASE}/data/{upload_name(source.folder)}/"
    other = make_photos(dataset / "other/train", images=2)
    assert upload_name(other) != upload_name(dataset / "train")


def test_input_mode_is_that_of_every_channel(dataset: Path) -> None:
    found = sources(str(dataset), {}, base_uri=BASE, local=True, input_mode="FastFile")
    assert {source.channel.input_mode for source in found} == {"FastFile"}


def test_what_is_no_data_is_a_sentence(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(DriverError, match="No training data"):
        uris(None)
    with pytest.raises(DriverError, match="is not there"):
        uris(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DriverError, match="is a file"):
        uris(tmp_path / "file")
    make_photos(dataset / "val", images=1)
    with pytest.raises(DataError, match="two folders for validation"):
        uris(dataset)


def test_a_path_that_goes_back_is_shown_as_where_it_leads(photos: Path) -> None:
    assert file_uri(photos / ".." / photos.name, folder=True) == f"{photos.resolve().as_uri()}/"
