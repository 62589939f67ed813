"""A small training program whose accuracy depends on the learning rate: best at 1e-3. It ends as the real one ends."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from pathlib import Path


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    base = Path(os.environ["SAGEMAKER_BASE_DIR"])
    values = json.loads((base / "input/config/hyperparameters.json").read_text())
    epochs, lr, pause_s = int(values["epochs"]), float(values["lr"]), float(values.get("checkpoint_minutes", "0"))
    stopped: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    if values.get("batch_size") == "13":
        (base / "output").mkdir(exist_ok=True)
        (base / "output/failure").write_text("thirteen brings bad luck")
        return 1
    best = 1 - abs(math.log10(lr) + 3) / 4
    for epoch in range(1, epochs + 1):
        tell(f"epoch={epoch}/{epochs} train_loss={1 / epoch:.6f} validation_accuracy={best * epoch / epochs:.6f}")
        time.sleep(pause_s)
        if "ExplodingTensor" in values.get("stop_on", "") and lr > 0.01:
            tell("Action StopTraining: ExplodingTensor is in stop_on.")
            break
        if stopped:
            break
    (base / "model").mkdir(exist_ok=True)
    (base / "model/meta.json").write_text(json.dumps({"lr": lr}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
