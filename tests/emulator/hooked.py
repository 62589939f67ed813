"""A customer's training program: one of the tiny trainings, with the hook that its DebugHookConfig describes."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from pathlib import Path
from types import ModuleType


def trainings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trainings", Path(__file__).parents[1] / "insight/trainings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    base = Path(os.environ["SAGEMAKER_BASE_DIR"])
    values = json.loads((base / "input/config/hyperparameters.json").read_text())
    module = trainings()
    module.EPOCHS = int(values.get("epochs", module.EPOCHS))
    module.torch.set_num_threads(1)
    getattr(module, values["training"])(base)
    time.sleep(float(values.get("sleep_s", 0)))
    (base / "model/weights.txt").write_text("weights")


if __name__ == "__main__":
    main()
