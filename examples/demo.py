"""The main job without docker, account or download: train, serve, ask. Run by `make demo`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from examples.surfaces import SURFACES, write_channels

ROOT = Path(__file__).parents[1]
JOB = ROOT / "build/demo"
HYPERPARAMETERS = {
    "arch": "resnet18",
    "pretrained": "none",
    "crop_px": "96",
    "epochs": "8",
    "batch_size": "16",
    "min_crop_area": "0.5",
}
START_LIMIT_S = 120


def main() -> None:
    """Make the photos, train, serve, ask, and say where things are."""
    started = time.monotonic()
    shutil.rmtree(JOB, ignore_errors=True)
    counts = write_channels(JOB / "input/data")
    step(f"Training ResNet18 from scratch on {counts['train']} tiles of {len(SURFACES)} surfaces")
    write_hyperparameters()
    run_module("kennel.classifier", "train", "--base-dir", str(JOB))
    step("Serving the artifact and sending it all test tiles")
    with server() as url:
        answers = [(photo, ask(url, photo)) for photo in sorted((JOB / "input/data/test").rglob("*.png"))]
    show(answers)
    print(f"\nartifact   {relative(JOB / 'model')}\nplots      {relative(JOB / 'output/data')}/*.png")
    print(f"finished in {time.monotonic() - started:.0f} s")


def write_hyperparameters() -> None:
    """Hand the hyperparameters over as SageMaker does: a JSON file of strings."""
    config = JOB / "input/config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(HYPERPARAMETERS, indent=2))


def run_module(*arguments: str) -> None:
    """Run one of the project's programs as a user would."""
    status = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(f"error: {arguments[0]} ended with status {status}; its message stands above.")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Serve the artifact on a free port of this machine while the block runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "serving", "serve", "--model-dir", str(JOB / "model"), "--port", str(port)]
    log_file = JOB / "serve.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(url, process, log_file)
        yield url
    finally:
        process.terminate()
        process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
    """Ask /ping until it says 200."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/ping", timeout=2):
            return
        time.sleep(0.2)
    sys.exit(f"error: the server did not become healthy; it said:\n{log_file.read_text()}")


def ask(url: str, photo: Path) -> dict[str, object]:
    """The best prediction for a photo."""
    request = urllib.request.Request(f"{url}/invocations", photo.read_bytes(), {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        best: dict[str, object] = json.load(answer)["predictions"][0]
    return best


def show(answers: list[tuple[Path, dict[str, object]]]) -> None:
    """A few answers as a table, and the share of right ones."""
    print(f"\n{'photo':<28} {'true':<8} {'predicted':<10} probability")
    for photo, best in answers[:: max(1, len(answers) // 9)]:
        print(f"{photo.name:<28} {photo.parent.name:<8} {best['label']:<10} {best['probability']:.3f}")
    right = sum(best["class"] == photo.parent.name for photo, best in answers)
    print(f"\n{right} of {len(answers)} test tiles right over HTTP: accuracy {right / len(answers):.3f}")
    if right < 0.95 * len(answers):
        sys.exit("error: less than 0.95, which this demo always reaches; something is broken.")


def step(text: str) -> None:
    """Say what comes next."""
    print(f"\n== {text}", flush=True)


def relative(path: Path) -> Path:
    """A path as seen from the project's folder."""
    return path.relative_to(ROOT)


if __name__ == "__main__":
    main()
