"""Jobs of many requests on few threads."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import pytest

from serving.backends.pool import WorkerPool


class Door:
    """A job that keeps its worker until it is opened."""

    def __init__(self, pool: WorkerPool) -> None:
        self.opened, begun = threading.Event(), threading.Event()

        def wait() -> bool:
            begun.set()
            return self.opened.wait(30)

        self.done = pool.submit(wait)
        assert begun.wait(30)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    one = WorkerPool(1)
    yield one
    one.close()


@pytest.fixture
def pair() -> Iterator[WorkerPool]:
    two = WorkerPool(2)
    yield two
    two.close()


class Doubling:
    """Doubles numbers; 13 is a fault."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


def test_what_waits_runs_together_up_to_the_limit_and_everyone_gets_their_own_result(pool):
    run, door = Doubling(), Door(pool)
    jobs = [pool.submit_joint(run, number, kind="a", together=4) for number in range(6)]
    door.opened.set()
    assert [job.result(30) for job in jobs] == [0, 2, 4, 6, 8, 10]
    assert run.batches == [[0, 1, 2, 3], [4, 5]]


def test_a_lone_job_waits_for_nobody(pool):
    run = Doubling()
    assert pool.submit_joint(run, 5, kind="a", together=4).result(30) == 10
    assert run.batches == [[5]]


def test_a_worker_takes_no_more_than_its_share_of_the_queue(pair):
    run, doors = Doubling(), [Door(pair), Door(pair)]
    jobs = [pair.submit_joint(run, number, kind="a", together=4) for number in range(4)]
    doors[0].opened.set()  # the other one would take two of the four
    assert [job.result(30) for job in jobs] == [0, 2, 4, 6]
    assert run.batches[0] == [0, 1]
    doors[1].opened.set()


def test_kinds_do_not_mix_and_jobs_without_one_run_alone(pool):
    first, second, door = Doubling(), Doubling(), Door(pool)
    jobs = [
        pool.submit_joint(first, 1, kind="a", together=4),
        pool.submit_joint(second, 2, kind="b", together=4),
        pool.submit_joint(first, 3, kind="a", together=4),
        pool.submit_joint(second, 4, kind=None, together=1),
        pool.submit_joint(second, 5, kind=None, together=1),
    ]
    door.opened.set()
    assert [job.result(30) for job in jobs] == [2, 4, 6, 8, 10]
    assert (first.batches, second.batches) == ([[1, 3]], [[2], [4], [5]])


def test_a_fault_of_one_harms_nobody_who_ran_beside_it(pool):
    run, door = Doubling(), Door(pool)
    jobs = [pool.submit_joint(run, number, kind="a", together=4) for number in (1, 13, 2)]
    door.opened.set()
    assert (jobs[0].result(30), jobs[2].result(30)) == (2, 4)
    with pytest.raises(ValueError, match="thirteen"):
        jobs[1].result(30)
    assert pool.submit(lambda: "alive").result(30) == "alive"


def test_a_cancelled_job_is_never_run_and_its_neighbours_are(pool):
    run, door = Doubling(), Door(pool)
    jobs = [pool.submit_joint(run, number, kind="a", together=4) for number in (1, 2, 3)]
    assert jobs[1].cancel()
    door.opened.set()
    assert (jobs[0].result(30), jobs[2].result(30)) == (2, 6)
    assert run.batches == [[1, 3]]


def test_the_end_drops_what_waits_and_takes_nothing_more(pool):
    door = Door(pool)
    waiting = pool.submit(lambda: 1)
    pool.close()
    door.opened.set()
    assert door.done.result(30) is True
    for job in (waiting, pool.submit(lambda: 2)):
        with pytest.raises(CancelledError):
            job.result(30)


def test_the_longest_job_is_told_while_it_runs(pool):
    assert pool.longest_s() == 0
    door = Door(pool)
    threading.Event().wait(0.05)
    assert pool.longest_s() >= 0.05
    door.opened.set()
    pool.submit(lambda: None).result(30)
    assert pool.longest_s() < 0.05


def test_nothing_of_a_job_outlives_it(pool):
    import gc
    import weakref

    class Body:
        pass

    body = Body()
    seen = weakref.ref(body)
    pool.submit_joint(lambda items: [None for _ in items], body, kind="a", together=4).result(30)
    del body
    pool.submit(lambda: None).result(30)
    gc.collect()
    assert seen() is None


def test_what_a_failed_job_held_is_free_as_soon_as_its_error_is(pool):
    class Model:
        pass

    held = []

    def load() -> None:
        model = Model()
        held.append(weakref.ref(model))
        raise ValueError("no model")

    gc.disable()  # it would find the circle late; a model of hundreds of megabytes must not wait for it
    try:
        job = pool.submit(load)
        assert "no model" in str(job.exception(30))
        del job
        assert pool.submit(lambda: True).result(30), "the worker has let go of the job before"
        assert held[0]() is None
    finally:
        gc.enable()
