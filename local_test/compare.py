"""Compare served predictions with the trainer's own: same photos, same probabilities.

usage: python3 local_test/compare.py PREDICTIONS.jsonl CHANNEL_DIR URL [TOLERANCE]

Standard library only, so that it runs wherever the scripts beside it do. Exits with 1 when any probability of any
photo differs by more than TOLERANCE (default 1e-4).
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path


def served(url: str, photo: Path) -> dict[str, float]:
    """Probability of every class as the server gives it."""
    request = urllib.request.Request(
        f"{url}/invocations?top_k=100000", photo.read_bytes(), {"Content-Type": "application/octet-stream"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return {line["class"]: line["probability"] for line in json.load(answer)["predictions"]}


def main(predictions: Path, channel: Path, url: str, tolerance: float = 1e-4) -> int:
    """Ask for every photo of a predictions file and report the largest difference."""
    rows = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
    classes = sorted({row["class"] for row in rows} | {row["predicted"] for row in rows})
    worst, right = 0.0, 0
    for row in rows:
        answer = served(url, channel / row["path"])
        names = sorted(answer)  # folder names in the order of the network's outputs, which is sorted, too
        if not set(classes) <= set(names) or len(names) != len(row["probabilities"]):
            sys.exit(f"error: the server knows the classes {names}, the trainer {classes}.")
        worst = max(worst, *(abs(answer[n] - p) for n, p in zip(names, row["probabilities"], strict=True)))
        right += max(answer, key=lambda name: answer[name]) == row["class"]
    print(f"{len(rows)} photos: accuracy over HTTP {right / len(rows):.4f}, largest difference {worst:.1e}")
    if worst > tolerance:
        print(f"error: that is more than {tolerance:g}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(float, sys.argv[4:])))
