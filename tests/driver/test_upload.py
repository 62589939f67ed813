"""Uploads to a real S3 API (moto's server)."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kennel.driver.errors import DriverError
from kennel.driver.session.reporting import Lines, Silent
from kennel.driver.transfers.upload import delete_objects, list_objects, upload, upload_file
from tests.driver.conftest import Aws

URI = "s3://dogs/kennel/data/photos/"


def keys(aws: Aws, prefix: str = "") -> set[str]:
    return {entry["Key"] for entry in list_objects(aws.client("s3"), "dogs", prefix)}


def test_a_folder_arrives_whole_and_hidden_files_stay(aws: Aws, photos: Path) -> None:
    (photos / "red/.DS_Store").write_bytes(b"x")
    (photos / "__MACOSX").mkdir()
    (photos / "__MACOSX/a.jpg").write_bytes(b"x")
    lines: list[str] = []
    done = upload(photos, URI, aws.client("s3"), Lines(lines.append))
    assert (done.sent, done.skipped, done.removed) == (12, 0, 0)
    assert keys(aws) == {f"kennel/data/photos/{name}/{n:03}.jpg" for name in ("blue", "red") for n in range(6)}
    body = aws.client("s3").get_object(Bucket="dogs", Key="kennel/data/photos/red/000.jpg")["Body"].read()
    assert body == (photos / "red/000.jpg").read_bytes()
    assert lines[-1].startswith("12 of 12 files")


def test_an_upload_that_broke_off_goes_on(aws: Aws, photos: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(photos / "red", part / "red")
    upload(part, URI, aws.client("s3"), Silent())
    done = upload(photos, URI, aws.client("s3"), Silent())
    assert (done.sent, done.skipped) == (6, 6)
    assert str(upload(photos, URI, aws.client("s3"), Silent())) == "0 files sent (0.0 MB), 12 were there"


def test_a_file_of_the_same_size_and_other_bytes_is_sent(aws: Aws, photos: Path) -> None:
    upload(photos, URI, aws.client("s3"), Silent())
    path = photos / "red/000.jpg"
    changed = bytearray(path.read_bytes())
    changed[-10] ^= 1
    path.write_bytes(changed)
    done = upload(photos, URI, aws.client("s3"), Silent())
    assert (done.sent, done.skipped) == (1, 11)


def test_what_the_folder_no_longer_has_is_removed_and_nothing_else(aws: Aws, photos: Path) -> None:
    upload(photos, URI, aws.client("s3"), Silent())
    aws.client("s3").put_object(Bucket="dogs", Key="kennel/data/photos2/keep.jpg", Body=b"x")
    (photos / "red/005.jpg").unlink()
    assert upload(photos, URI, aws.client("s3"), Silent()).removed == 1
    assert "kennel/data/photos/red/005.jpg" not in keys(aws)
    assert "kennel/data/photos2/keep.jpg" in keys(aws)


def test_objects_of_a_bucket_with_kms_are_known_by_their_sha256(aws: Aws, photos: Path) -> None:
    """Their ETag is no MD5; a multipart upload's is none either, and stands in for it here."""
    s3, path = aws.client("s3"), photos / "red/000.jpg"
    upload(photos, URI, s3, Silent(), kms_key="alias/dogs")
    key = "kennel/data/photos/red/000.jpg"
    assert s3.head_object(Bucket="dogs", Key=key)["ServerSideEncryption"] == "aws:kms"
    multipart = s3.create_multipart_upload(Bucket="dogs", Key=key)["UploadId"]
    part = s3.upload_part(Bucket="dogs", Key=key, UploadId=multipart, PartNumber=1, Body=path.read_bytes())
    s3.complete_multipart_upload(
        Bucket="dogs", Key=key, UploadId=multipart,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )  # fmt: skip
    assert "-" in s3.head_object(Bucket="dogs", Key=key)["ETag"]
    assert upload(photos, URI, s3, Silent()).sent == 1  # no checksum to trust: it is sent once more
    assert upload(photos, URI, s3, Silent()).sent == 0


def test_an_empty_folder_and_a_missing_bucket_are_sentences(aws: Aws, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DriverError, match="has no files"):
        upload(tmp_path / "empty", URI, aws.client("s3"), Silent())
    with pytest.raises(DriverError, match="Uploading to s3://cats/x/: .*bucket does not exist"):
        upload(photos, "s3://cats/x/", aws.client("s3"), Silent())


def test_one_file_goes_to_exactly_its_uri(aws: Aws, photos: Path) -> None:
    upload_file(photos / "red/000.jpg", "s3://dogs/a/b.jpg", aws.client("s3"))
    assert keys(aws) == {"a/b.jpg"}


def test_more_than_a_thousand_objects_are_deleted(aws: Aws) -> None:
    s3 = aws.client("s3")
    names = [f"x/{number}" for number in range(1005)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: s3.put_object(Bucket="dogs", Key=name, Body=b""), names))
    assert delete_objects(s3, "dogs", names) == 1005
    assert keys(aws) == set()
