from pathlib import Path

import pytest
import torch

from kennel.classifier.training.checkpoints import CheckpointFolder

pytestmark = pytest.mark.pure


def state(step: int) -> dict[str, object]:
    return {"step": step, "model": {"weight": torch.full((3,), float(step))}, "rows": [{"loss": 0.5}]}


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    assert folder.load() is None
    folder.save(state(7), 7)
    loaded = folder.load()
    assert loaded is not None
    assert loaded["step"] == 7
    assert torch.equal(loaded["model"]["weight"], torch.full((3,), 7.0))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (1, 20, 3, 300):
        folder.save(state(step), step)
    assert sorted(path.name[:19] for path in tmp_path.iterdir()) == ["checkpoint-00000020", "checkpoint-00000300"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    folder.save(state(1), 1)
    last = folder.save(state(2), 2)
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes({"flip": data, "cut": data[: len(data) // 2], "empty": b""}[damage])
    loaded = folder.load()
    assert loaded is not None
    assert loaded["step"] == 1
    assert f"Damaged and passed over: {last.name}. Using checkpoint-00000001-" in caplog.text


def test_nothing_but_damage_starts_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    folder.save(state(1), 1).write_bytes(b"")
    assert folder.load() is None
    assert "starting from the beginning" in caplog.text


def test_a_failed_write_leaves_the_earlier_checkpoints(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    folder.save(state(1), 1)
    with pytest.raises(Exception, match="pickle"):
        folder.save({"step": 2, "bad": lambda: None}, 2)
    assert [path.name[:19] for path in tmp_path.iterdir()] == ["checkpoint-00000001"]
    assert folder.load() is not None


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-mine.pt").write_bytes(b"x")
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in range(5):
        folder.save(state(step), step)
    assert (tmp_path / "checkpoint-mine.pt").exists()
