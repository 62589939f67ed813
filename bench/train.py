"""How fast the trainer is, against what it could be and what people would else use: one Markdown table.

Every ratio is between trainings that took turns on the same machine within the same run, each in a process of its own,
the order turned round every other time; the table has the median ratio of the rounds and their range. images/s
are those of the training part of an epoch, median of the epochs from the second on, by the trainer's own count. While
other programs compute, a training whose threads wait for each other can be five times slower: one during which
they had more than 5 % of the processors is repeated (--retries), the least disturbed is kept, and the table says how
disturbed that was.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import machine, photos
from bench.jobs import Jobs
from bench.rows import NAMES, Bench, show

_EXAMPLE = """\
example:
  KENNEL_TEST_DATA=~/data .venv/bin/python -m bench.train --rounds 5 --json bench.json
"""


def header(jobs: Jobs, about: str, rounds: int) -> dict[str, str]:
    """What the table's numbers belong to."""
    return {
        **machine.describe(),
        "photos": about,
        "network": f"ResNet18 from scratch, 224 px, batches of {jobs.batch_size}, {jobs.epochs} epochs",
        "rounds": f"{rounds}; each value is the median of the rounds, the range is their smallest and largest",
        "command": f"python -m bench.train {' '.join(sys.argv[1:])}".strip(),
    }


def main() -> None:
    """Measure and print."""
    parser = _parser()
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    if arguments.epochs < 2 or arguments.rounds < 1:
        parser.error("--epochs must be at least 2 and --rounds at least 1")
    with tempfile.TemporaryDirectory(prefix="kennel-bench-") as folder:
        about = photos.prepare(Path(folder) / "photos", arguments.data, arguments.images)
        jobs = Jobs(Path(folder), Path(folder) / "photos", arguments.batch_size, arguments.epochs, arguments.retries)
        head = header(jobs, about, arguments.rounds)
        bench = Bench(jobs, arguments.rounds, arguments.only)
        rows = [bench.row(name) for name in NAMES if name in arguments.only]
    show(head, rows)
    if arguments.json:
        arguments.json.write_text(json.dumps({"header": head, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.train", description=__doc__.split("\n", maxsplit=1)[0], epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--data",
        type=Path,
        default=photos.default_source(),
        help="holds train/ and validation/ or val/; default: $KENNEL_TEST_DATA/hymenoptera_data, or generated photos",
    )
    parser.add_argument("--images", type=int, default=240, help="training images (default 240)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each training is run (default 3)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a training (default 4, at least 2)")
    parser.add_argument("--batch-size", type=int, default=32, help="images in a step (default 32)")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=f"rows: {', '.join(NAMES)}"
    )
    parser.add_argument("--json", type=Path, help="write the table here, too")
    parser.add_argument("--retries", type=int, default=2, help="how often a disturbed training is repeated (default 2)")
    return parser


if __name__ == "__main__":
    main()
