"""The command on a disk without room: one sentence and a hint, and no half file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kennel.driver.endpoints.artifacts import pack
from kennel.driver.session.record import Record
from tests.small_disks import small_disk


def test_the_command_says_that_the_disk_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        record = Record(disk.path / "home/record.json")
        record.begin("model", "first", "local", "us-east-1")
        disk.fill()
        program = (
            "import sys; from pathlib import Path; from kennel.driver import __main__ as driver\n"
            "from kennel.driver.session.record import Record\n"
            "def note(context): Record(Path(sys.argv[1])).begin('model', 'x' * 9000, 'local', 'us-east-1')\n"
            "driver.COMMANDS['jobs'] = note\n"
            "sys.exit(driver.main(['jobs']))\n"
        )
        command = [sys.executable, "-c", program, str(disk.path / "home/record.json")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("kennel: No space left on device")
        assert "Make room on that disk" in done.stderr
        assert "Traceback" not in done.stderr
        assert [entry.name for entry in record.entries()] == ["first"]
        disk.make_room()
        assert sorted(path.name for path in (disk.path / "home").iterdir()) == ["record.json", "record.lock"]


def test_an_archive_without_room_leaves_nothing(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(os.urandom(6 << 20))
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        with pytest.raises(OSError, match="No space left on device"):
            pack(model, disk.path / "model.tar.gz")
        assert not list(disk.path.iterdir())
