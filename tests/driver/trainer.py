"""A small training program: what the real one prints, in a second. It reads and writes where a container would."""

from __future__ import annotations

import json
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
    epochs, pause_s = int(values["epochs"]), float(values["checkpoint_minutes"])  # no name of its own is allowed
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    tell("channels " + " ".join(sorted(path.name for path in (base / "input/data").iterdir())))
    if values.get("seed") == "13":
        (base / "output").mkdir(exist_ok=True)
        (base / "output/failure").write_text("thirteen brings bad luck")
        return 1
    for epoch in range(1, epochs + 1):
        tell(f"epoch={epoch}/{epochs} train_loss={1 / epoch:.6f} validation_accuracy={epoch / epochs:.6f}")
        time.sleep(pause_s)
        if stopped:
            break
    (base / "model").mkdir(exist_ok=True)
    (base / "model/meta.json").write_text(json.dumps({"epochs": epoch}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
