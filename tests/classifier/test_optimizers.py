"""torch's optimizers without its compiler: the same numbers, and no compiler in a whole training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kennel.classifier.network.optimizers import SGD, AdamW


@pytest.mark.parametrize(
    ("own", "theirs", "options"),
    [
        (SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (AdamW, torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_weights_and_state_are_those_of_torchs_own(
    own: type[torch.optim.Optimizer], theirs: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    found = []
    for kind in (own, theirs):
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 3)
        optimizer = kind(model.parameters(), lr=0.1, **options)  # type: ignore[call-arg]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
        for step in range(6):
            if step == 3:
                state = optimizer.state_dict()
                optimizer = kind(model.parameters(), lr=0.5, **options)  # type: ignore[call-arg]
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            assert all(parameter.grad is None for parameter in model.parameters())
            model(torch.randn(4, 5)).square().sum().backward()
            optimizer.step()
            scheduler.step()
        found.append((model.weight.detach(), optimizer.state_dict()))
    (weight, state), (expected, expected_state) = found
    assert torch.equal(weight, expected)
    assert state["param_groups"] == expected_state["param_groups"]
    for name, value in expected_state["state"][0].items():
        assert torch.equal(torch.as_tensor(state["state"][0][name]), torch.as_tensor(value))


def test_a_closure_is_asked_with_gradients() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = SGD([weight], lr=0.5)

    def closure() -> float:
        loss = (weight * 2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert weight.item() == 0.0


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd", "ema_decay": "0.9", "augment": "randaugment"}])
def test_a_training_with_debugger_and_profiler_imports_no_compiler(job: Path, changes: dict[str, str]) -> None:
    values = {"arch": "squeezenet1_1", "pretrained": "none", "epochs": "2", "batch_size": "4", "precision": "fp32"}
    small = {"resize_px": "40", "crop_px": "32", "profiler_start_step": "2"}
    (job / "input/config").mkdir(parents=True)
    (job / "input/config/hyperparameters.json").write_text(json.dumps(values | small | changes))
    code = """if True:
        import sys
        from kennel.classifier.__main__ import main
        assert main(["train"]) == 0
        print({"torch._dynamo", "torch._inductor", "sympy", "triton"} & set(sys.modules))
    """
    environ = {**os.environ, "SAGEMAKER_BASE_DIR": str(job)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
    assert list((job / "output/data/profiler").glob("**/*_operators.json"))  # torch's profiler has run
