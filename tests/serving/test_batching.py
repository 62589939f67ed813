"""Images of many requests in one forward pass."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from serving.engines.batching import Batching
from serving.engines.choose import choose_engine
from serving.settings import ModelSettings
from tests.serving.serving_harness import encoded, scene


class Held:
    """An engine that waits for a signal, so that a test decides what gathers behind it."""

    name = "held"

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def probabilities(self, batch: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(batch))
        self.begun.set()
        assert self.go_on.wait(30)
        if bool((batch == 13).any()):
            raise ValueError("thirteen")
        return batch.float() * 2


def test_what_waits_while_a_batch_is_computed_goes_together_and_everyone_gets_their_own():
    engine = Held()
    batching = Batching(engine, 4)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(batching.probabilities, torch.full((1, 1), 1))
        assert engine.begun.wait(30)
        others = [threads.submit(batching.probabilities, torch.full((size, 1), size)) for size in (2, 1, 3, 5)]
        while batching._waiting.qsize() < 4:
            pass
        engine.go_on.set()
        assert first.result().tolist() == [[2]]
        for size, other in zip((2, 1, 3, 5), others, strict=True):
            assert other.result().tolist() == [[2 * size]] * size
    assert sum(engine.sizes) == 12
    assert engine.sizes[0] == 1
    assert max(engine.sizes) == 5, "a request of more images than a batch goes alone"
    batching.close()


def test_a_failure_reaches_those_who_were_computed_together_and_nobody_else():
    engine = Held()
    engine.go_on.set()
    batching = Batching(engine, 4)
    with pytest.raises(ValueError, match="thirteen"):
        batching.probabilities(torch.full((1, 1), 13))
    assert batching.probabilities(torch.full((1, 1), 2)).tolist() == [[4]]
    batching.close()


def test_a_batch_equals_its_singles(predictor, artifact):
    engine = Batching(choose_engine(predictor, artifact, ModelSettings(precision="fp32")), 8)
    assert engine.name == "torch fp32, batches of up to 8"
    images = [predictor.tensor(encoded(scene(seed), "PNG"))[None] for seed in range(12)]
    with ThreadPoolExecutor(12) as threads:
        together = list(threads.map(engine.probabilities, images))
    for image, found in zip(images, together, strict=True):
        assert torch.allclose(found, predictor.probabilities(image), rtol=0, atol=1e-5)
    engine.close()
