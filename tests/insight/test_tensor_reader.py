"""Kennel's reader of tensors against smdebug's own, on folders that smdebug's hook wrote, whole and damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kennel.insight.errors import InsightError
from kennel.insight.judging.smdebug_trial import SmdebugTrial
from kennel.insight.tensors.events import RecordError, tensor_of
from kennel.insight.tensors.reader import TensorReader
from kennel.insight.tensors.trial import Trial
from tests.insight.saved import ALL, arrays

KINDS = ("whole", "reduced", "both", "small")
REDUCTIONS = [(name, absolute) for name in (*ALL, "l1", "l2") for absolute in (False, True)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of each kind."""
    folder = tmp_path_factory.mktemp("saved")
    command = [sys.executable, str(Path(__file__).with_name("saved.py"))]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = [
        ["whole", str(folder), "0", "2"],
        ["whole", str(folder), "1", "2"],
        *([kind, str(folder)] for kind in KINDS[1:]),
    ]
    processes = [subprocess.Popen([*command, *these], env=environ, stdout=subprocess.DEVNULL) for these in words]
    assert [process.wait(240) for process in processes] == [0] * len(words)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A folder that a test may spoil."""
    return lambda kind: Path(shutil.copytree(saved / kind, tmp_path / kind))


def opened(folder: Path) -> TensorReader:
    reader = TensorReader(folder)
    reader.refresh()
    return reader


def theirs_of(folder: Path) -> Any:
    trial = Trial(folder, folder)
    trial.refresh(final=True)
    their = SmdebugTrial(trial)
    assert all(their.has(step.number) for step in trial.steps)
    return their.trial


def same(one: Any, other: Any) -> bool:
    """To the bit; smdebug reads int8 as uint8, which are the same bits."""
    if one is None or other is None:
        return one is other
    their = np.asarray(other)
    return (one.shape, one.tobytes()) == (their.shape, their.tobytes()) and (
        one.dtype == their.dtype or (one.dtype, their.dtype) == (np.int8, np.uint8)
    )


def of(read: Callable[[], Any]) -> Any:
    """What smdebug's reader says: a value, None where there is none, or that it cannot read it."""
    from smdebug.exceptions import TensorUnavailableForStep

    try:
        return read()
    except TensorUnavailableForStep:
        return None
    except (KeyError, TypeError, ValueError) as error:  # dtypes that its hook writes and its reader does not know
        return error


@pytest.mark.parametrize("kind", KINDS)
def test_steps_names_values_and_reductions_are_smdebugs_own(saved: Path, kind: str) -> None:
    reader, theirs = opened(saved / kind), theirs_of(saved / kind)
    assert reader.ready(final=False) == theirs.steps() != []
    compared = 0
    for number in theirs.steps():
        step = reader.steps[number]
        assert (step.first.mode, step.first.mode_step) == (theirs.mode(number).name, theirs.mode_step(number))
        assert step.names() == theirs.tensor_names(step=number)
        for name in step.names():
            tensor = theirs.tensor(name)
            value = of(lambda t=tensor, n=number: t.value(n))
            if name == "words":
                assert reader.array(name, number) is None
            elif isinstance(value, Exception):
                assert name.startswith("dtype/"), value
            else:
                assert same(reader.array(name, number), value), name
            kinds = {f"{'abs_' if absolute else ''}{red}": red_value
                     for (red, absolute), red_value in tensor.reduction_values(number).items()}  # fmt: skip
            assert set(step.records(name)) - {""} == set(kinds)
            assert all(same(reader.array(name, number, red), value) for red, value in kinds.items())
            compared += 1 + len(kinds)
    assert compared > (2 if kind == "small" else 100)
    assert reader.notes == []


def test_modes_have_steps_of_their_own_and_the_last_workers_tensor_is_found(saved: Path) -> None:
    reader = opened(saved / "whole")
    assert [(step.first.mode, step.first.mode_step) for _, step in sorted(reader.steps.items())] == [
        ("GLOBAL", 0), ("TRAIN", 0), ("EVAL", 0), ("TRAIN", 1), ("PREDICT", 0),
    ]  # fmt: skip
    assert set(reader.steps[0].by_worker) == {"worker_0", "worker_1"}
    assert [reader.array(f"only/{rank}", 0).tolist() for rank in (0, 1)] == [[0] * 3, [1] * 3]  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "value"), list(arrays()), ids=[name for name, _ in arrays()])
def test_every_dtype_and_shape_comes_back_as_it_was_saved(saved: Path, name: str, value: np.ndarray) -> None:
    found = opened(saved / "whole").array(name, 2)
    assert found is not None
    assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())
    assert found.flags.writeable


@pytest.mark.parametrize("kind", ["reduced", "both", "whole"])
@pytest.mark.parametrize(("reduction", "absolute"), REDUCTIONS)
def test_a_trial_reduces_as_smdebug_does(saved: Path, kind: str, reduction: str, absolute: bool) -> None:
    trial, theirs = Trial(saved / kind, saved), theirs_of(saved / kind)
    compared = 0
    for step in trial.refresh(final=True):
        for name in trial.saved(step):
            their = theirs.tensor(name)
            value = of(lambda t=their, n=step.number: t.value(n))
            saved_kinds = their.reduction_values(step.number)
            if (reduction, absolute) not in saved_kinds and (
                isinstance(value, Exception) or name == "words" or value.dtype.kind == "c" or name == "dtype/int8"
                or (reduction in ("l1", "l2") and value.ndim != 1)  # smdebug takes the norm of a matrix then
            ):  # fmt: skip
                continue
            with np.errstate(all="ignore"):
                expected = float(their.reduction_value(step.number, reduction, abs=absolute))
            assert np.array_equal(
                trial.reduction(name, step, reduction, absolute=absolute), expected, equal_nan=True
            ), name
            compared += 1
    assert compared > 5


def test_norms_are_of_all_values_as_the_hook_saves_them(saved: Path) -> None:
    trial = Trial(saved / "both", saved)
    [first, *_] = trial.refresh(final=True)
    weights = trial.value("Net_body.0.weight", first)
    assert weights is not None
    assert weights.ndim == 4
    assert trial.reduction("Net_body.0.weight", first, "l1") == pytest.approx(float(np.abs(weights).sum()), rel=1e-5)
    whole = Trial(saved / "whole", saved)
    [first, *_] = whole.refresh(final=True)
    weights = whole.value("Net_body.0.weight", first)
    assert weights is not None
    assert whole.reduction("Net_body.0.weight", first, "l2") == pytest.approx(
        float((weights**2).sum() ** 0.5), rel=1e-5
    )


def test_a_tensor_whose_shape_is_saved_too_is_read(copied: Callable[[str], Path]) -> None:
    """smdebug's own reader forgets then where the tensor is."""
    folder = copied("small")
    [file] = (folder / "index").glob("*/*.json")
    index = json.loads(file.read_text())
    index["shape_payload"] = [
        {"tensorname": "a", "originalname": "a", "shape": [3]},
        {"tensorname": "e", "originalname": "e", "shape": [9]},
    ]
    file.write_text(json.dumps(index))
    reader = opened(folder)
    assert reader.array("a", 0).tolist() == [1, 2, 3]  # type: ignore[union-attr]
    assert "e" in reader.steps[0].names()
    assert reader.array("e", 0) is None
    assert reader.notes == []
    assert theirs_of(folder).tensor("a").shape(0) == (3,)


def records(folder: Path) -> dict[str, tuple[int, int]]:
    [index] = (folder / "index").glob("*/*.json")
    payload = json.loads(index.read_text())["tensor_payload"]
    return {row["tensorname"]: (row["start_idx"], row["start_idx"] + row["length"]) for row in payload}


def test_an_event_file_cut_at_any_byte_costs_what_is_behind_it(copied: Callable[[str], Path]) -> None:
    folder = copied("small")
    [file] = (folder / "events").glob("*/*.tfevents")
    content, ends = file.read_bytes(), records(folder)
    whole = opened(folder)
    values = {name: whole.array(name, 0) for name in ends}
    assert all(value is not None for value in values.values())
    assert max(end for _, end in ends.values()) == len(content)
    for length in range(len(content)):
        file.write_bytes(content[:length])
        reader = opened(folder)
        for name, (_, end) in ends.items():
            found = reader.array(name, 0)
            assert same(found, values[name] if end <= length else None)
        assert len(reader.notes) == sum(end > length for _, end in ends.values())
        assert all("of step 0 cannot be read: the record is cut off after" in note for note in reader.notes)


def test_an_event_file_with_any_byte_changed_raises_nothing(copied: Callable[[str], Path]) -> None:
    folder = copied("small")
    [file] = (folder / "events").glob("*/*.tfevents")
    content, ends = file.read_bytes(), records(folder)
    framed = {at for start, end in ends.values() for at in (*range(start, start + 12), *range(end - 4, end))}
    for at in range(len(content)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        reader = opened(folder)
        found = {name: reader.array(name, 0) for name in ends}
        assert sum(value is None for value in found.values()) == len(reader.notes) <= 1
        if at in framed:
            assert "checksum" in reader.notes[0]


def test_records_of_noise_raise_record_errors_alone(saved: Path) -> None:
    [file] = (saved / "small/events").glob("*/*.tfevents")
    start, end = records(saved / "small")["b/c"]
    record = file.read_bytes()[start:end]
    noise = np.random.default_rng(0)
    refused = 0
    for _ in range(5000):
        spoilt = bytearray(record)
        for _ in range(noise.integers(1, 7)):
            at = noise.integers(12, len(spoilt) - 4)  # behind the length, before the checksum
            spoilt[at] = noise.integers(256)
        try:
            tensor_of(bytes(spoilt), "b/c")
        except RecordError:
            refused += 1
    assert 1000 < refused < 5000


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_an_index_that_is_damaged_anywhere_costs_its_step_or_its_tensors(
    copied: Callable[[str], Path], damage: str
) -> None:
    folder = copied("small")
    [file] = (folder / "index").glob("*/*.json")
    content = file.read_bytes()
    for at in range(len(content)):
        rest = b"" if damage == "cut" else bytes([content[at] ^ 0x15]) + content[at + 1 :]
        file.write_bytes(content[:at] + rest)
        reader = opened(folder)
        if damage == "cut":
            assert reader.steps == {}
            assert "The index of step 0 cannot be read" in reader.notes[0]
        for number, step in reader.steps.items():
            for name in step.names():
                reader.array(name, number)


def test_an_index_that_is_completed_later_is_read_then(copied: Callable[[str], Path]) -> None:
    folder = copied("small")
    [file] = (folder / "index").glob("*/*.json")
    content = file.read_bytes()
    file.write_bytes(content[:40])
    trial = Trial(folder, folder)
    assert trial.refresh() == []
    assert trial.refresh() == []
    assert len(trial.notes) == 1
    file.write_bytes(content)
    assert [step.number for step in trial.refresh()] == [0]
    assert trial.notes == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start_idx": 10**15}, "cut off after 0 bytes"),
        ({"length": 10**15}, ""),  # the record says itself where it ends
        ({"length": 10}, "cut off after 10 bytes"),
        ({"tensorname": "other"}, "the record is of b/c"),
        ({"start_idx": -1}, "the step is left out"),
        ({"length": "9"}, "the step is left out"),
    ],
)
def test_places_that_are_none_are_noted(copied: Callable[[str], Path], change: dict[str, Any], said: str) -> None:
    folder = copied("small")
    [file] = (folder / "index").glob("*/*.json")
    index = json.loads(file.read_text())
    row = next(row for row in index["tensor_payload"] if row["tensorname"] == "b/c")
    row.update(change)
    file.write_text(json.dumps(index))
    reader = opened(folder)
    found = reader.array(row["tensorname"], 0) if reader.steps else None
    assert (found is None) == bool(said)
    assert bool(reader.notes) == bool(said)
    assert said in "".join(reader.notes)


def test_an_event_file_elsewhere_or_of_another_kind_is_not_opened(copied: Callable[[str], Path]) -> None:
    folder = copied("small")
    [file] = (folder / "index").glob("*/*.json")
    index = json.loads(file.read_text())
    os.mkfifo(folder / "pipe")  # it would be waited for
    index["meta"]["event_file_name"] = "pipe"
    file.write_text(json.dumps(index))
    reader = opened(folder)
    assert reader.array("d", 0) is None
    assert "pipe is not there" in reader.notes[0]
    for outside in ("/etc/hostname", "../small/pipe"):
        index["meta"]["event_file_name"] = outside
        file.write_text(json.dumps(index))
        assert "is outside the folder" in opened(folder).notes[0]


def test_a_step_is_shown_when_all_workers_have_saved_it_or_never_will(copied: Callable[[str], Path]) -> None:
    folder = copied("whole")
    files = {path.name: path for path in (folder / "index").glob("*/*.json")}
    early, late = files["000000000001_worker_1.json"], files["000000000004_worker_1.json"]
    early.unlink()
    hidden = late.rename(folder / "late")
    trial = Trial(folder, folder)
    assert [step.number for step in trial.refresh()] == [0, 1, 2, 3]  # 3 is whole, so nobody waits for 1 any more
    their = SmdebugTrial(trial)
    assert [their.has(number) for number in range(5)] == [True] * 4 + [False]
    their.trial.wait_for_steps(
        [1]
    )  # smdebug's rules do; on its own it would wait for the second worker, here for nobody
    assert trial.refresh() == []
    hidden.rename(late)
    assert [step.number for step in trial.refresh()] == [4]
    assert their.has(4)
    late.unlink()
    assert [step.number for step in Trial(folder, folder).refresh(final=True)] == [0, 1, 2, 3, 4]


def test_the_true_checksum_of_a_payload_is_understood(saved: Path) -> None:
    from smdebug.core.tfrecord.record_writer import masked_crc32c

    [file] = (saved / "small/events").glob("*/*.tfevents")
    start, end = records(saved / "small")["a"]
    record = file.read_bytes()[start:end]
    true = record[:-4] + int(masked_crc32c(record[12:-4])).to_bytes(4, "little")
    assert true != record
    assert same(tensor_of(true, "a"), tensor_of(record, "a"))
    with pytest.raises(RecordError, match="does not fit its checksum"):
        tensor_of(true[:20] + bytes([true[20] ^ 1]) + true[21:], "a")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "cannot be read"),
        ('{"_meta": {"num_workers": 1}}', "cannot be read"),
        ('{"_meta": {"num_workers": 2}, "collections": {}}', "collections of 1 workers of 2"),
        ('{"_meta": {"num_workers": 1}, "collections": {"c": {"include_regex": ["("]}}}', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_collections_that_are_none_are_one_sentence(copied: Callable[[str], Path], content: str, said: str) -> None:
    folder = copied("small")
    [file] = (folder / "collections").glob("*/*.json")
    file.write_text(content)
    with pytest.raises(InsightError, match=said):
        TensorReader(folder)
