"""How a training job's document changes, without a job."""

from __future__ import annotations

from typing import Any

import pytest

from kennel.emulator.documents import training
from kennel.emulator.documents.training import HostFailure, IllegalMoveError, Life, Outcome, Phase, Stop, life

pytestmark = pytest.mark.pure

WRITTEN_BY_0_1 = {  # a job whose second host failed while it ran, as version 0.1 stored it
    "phase": "uploading", "attempt": 1, "retries": 0, "spent_s": 12.5, "resumed": 1_764_000_000.0,
    "streams": {"algo-1 1764000000.0": "job/algo-1-1764000000"}, "handles": {"algo-1": "a", "algo-2": "b"},
    "feeders": {}, "outcome": {"failed": {"host": "algo-2", "code": 3, "reason": "", "at": 1_764_000_009.0}},
    "kept": True,
}  # fmt: skip


def job(**changes: Any) -> dict[str, Any]:
    request = {
        "TrainingJobName": "job", "AlgorithmSpecification": {"TrainingImage": "i"}, "OutputDataConfig": {},
        "ResourceConfig": {"InstanceType": "ml.m5.large"}, **changes,
    }  # fmt: skip
    return training.training_document(request, "arn", 100.0)


def test_a_life_of_version_0_1_is_read() -> None:
    found = life({"_life": WRITTEN_BY_0_1})
    assert (found.phase, found.outcome.failed) == (Phase.UPLOADING, HostFailure("algo-2", 3, "", 1_764_000_009.0))
    assert found.to_json() == WRITTEN_BY_0_1


def test_a_document_that_has_no_life_yet_is_at_its_beginning() -> None:
    assert life(job()) == Life()


def test_every_member_comes_back_as_it_was() -> None:
    full = Life(
        Phase.RUNNING, 1, 2, 3.5, 4.0, {"algo-1": "h"}, {"algo-1": "f"}, {"algo-1 1": "s"}, Stop.MAX_WAIT, 5.0,
        Outcome(stop=Stop.USER), True, 6.0,
    )  # fmt: skip
    assert Life.from_json(full.to_json()) == full


def test_a_job_goes_through_its_phases() -> None:
    document = job()
    training.begin_launch(document, {"algo-1": "job/algo-1-101"}, 101.0)
    training.adopt(document, {"algo-1": "h"}, {}, whole=True)
    training.begin_upload(document, Outcome())
    assert life(document) == Life(Phase.UPLOADING, handles={"algo-1": "h"}, streams={"algo-1 101.0": "job/algo-1-101"})


@pytest.mark.parametrize(
    ("phase", "move"),
    [
        (Phase.PREPARING, lambda d: training.adopt(d, {}, {}, whole=True)),
        (Phase.PREPARING, lambda d: training.interrupt(d, 1.0)),
        (Phase.LAUNCHING, lambda d: training.begin_launch(d, {}, 1.0)),
        (Phase.LAUNCHING, lambda d: training.begin_upload(d, Outcome())),
        (Phase.RUNNING, lambda d: training.begin_launch(d, {}, 1.0)),
        (Phase.UPLOADING, lambda d: training.begin_upload(d, Outcome())),
    ],
)
def test_a_move_that_does_not_follow_is_refused_and_changes_no_phase(phase: Phase, move: Any) -> None:
    document = {**job(), "_life": Life(phase).to_json()}
    with pytest.raises(IllegalMoveError, match=f"cannot go from '{phase}'"):
        move(document)
    assert life(document).phase == phase


def test_only_time_with_instances_is_spent() -> None:
    document = job()
    training.resume(document, 110.0)
    training.resume(document, 115.0)  # it has them already
    assert training.spent_s(document, 120.0) == 10
    training.pause(document, 120.0)
    training.pause(document, 125.0)
    assert training.spent_s(document, 200.0) == 10
    training.resume(document, 200.0)
    assert (training.spent_s(document, 201.0), document["TrainingStartTime"]) == (11, 110.0)


def test_an_internal_failure_is_tried_again_as_often_as_the_request_says() -> None:
    document = job(RetryStrategy={"MaximumRetryAttempts": 1})
    training.begin_launch(document, {}, 101.0)
    assert training.try_again(document, 102.0)
    assert (life(document).phase, life(document).retries) == (Phase.PREPARING, 1)
    assert document["SecondaryStatus"] == "Restarting"
    assert not training.try_again(document, 103.0)


@pytest.mark.parametrize(
    ("reason", "status", "last"),
    [(Stop.USER, "InProgress", "Stopped"), (Stop.MAX_RUNTIME, "Stopping", "MaxRuntimeExceeded"),
     (Stop.MAX_WAIT, "Stopping", "MaxWaitTimeExceeded"), (Stop.INTERRUPTED, "InProgress", "Stopped")],
)  # fmt: skip
def test_a_limit_makes_a_job_stop_and_names_its_end(reason: Stop, status: str, last: str) -> None:
    document = job()
    training.stop_because(document, reason, 150.0)
    assert (document["TrainingJobStatus"], reason.secondary) == (status, last)
    assert (life(document).stop, life(document).stopped_at) == (reason, 150.0)


def test_an_interrupted_job_begins_again_without_its_stop() -> None:
    document = {**job(), "_life": Life(Phase.RUNNING, stop=Stop.INTERRUPTED, stopped_at=1.0).to_json()}
    training.interrupt(document, 2.0)
    assert life(document) == Life(attempt=1)
