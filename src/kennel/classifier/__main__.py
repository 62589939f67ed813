"""The classifier's command line, `python -m kennel.classifier`; the only module here that prints."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from kennel.classifier.processes.program import become, find_program
from kennel.contract.errors import ConfigError, ImageError, KennelError, OtherProcessError
from kennel.contract.hyperparameters import HYPERPARAMETERS, markdown_table, parse_hyperparameters
from kennel.contract.paths import BASE_DIR, BASE_DIR_VARIABLE, ContainerPaths

_TRAIN_EXAMPLE = """\
example:
  mkdir -p job/input/data && ln -s ~/photos job/input/data/train
  python -m kennel.classifier train --base-dir job --pretrained none --epochs 5
"""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MORE_ROOM = "Give the job a larger volume (VolumeSizeInGB), or let it leave less: debugger=off, profiler=off."
_PREDICT_EXAMPLE = """\
example:
  python -m kennel.classifier predict job/model photo.jpg --top 3
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    argv = sys.argv[1:] if argv is None else argv
    arguments, rest = _parser().parse_known_args(argv)
    if arguments.command == "standby":
        from kennel.classifier.processes.standby import wait  # torch and all the rest

        if wait(arguments.seconds):
            return main(["train"])
        print(f"error: no job has come in {arguments.seconds:g} s", file=sys.stderr)
        return 1
    if arguments.command == "train":
        return _train(arguments, rest, argv)
    if rest:
        _parser().error(f"unrecognised arguments: {' '.join(rest)}")
    if arguments.command == "hyperparameters":
        print(markdown_table(), end="")
        return 0
    return _predict(arguments)


def _train(arguments: argparse.Namespace, rest: Sequence[str], argv: Sequence[str]) -> int:
    paths = ContainerPaths(arguments.base_dir.absolute())
    try:
        hyperparameters = paths.read_hyperparameters()
        program = find_program(hyperparameters, os.environ)
        if program:
            become(program, paths, hyperparameters)
        config = parse_hyperparameters(hyperparameters, _flags(rest))
        hosts = paths.read_hosts()
        from kennel.classifier.processes import launch  # after the configuration: torch takes seconds to import
        from kennel.classifier.processes.stop import StopSignal
        from kennel.classifier.training.run import run

        if not launch.is_started():
            plan = launch.plan(config, hosts)
            if plan.size > 1:
                return launch.launch(plan, argv)
        _quieten_all_but_the_first()
        run(config, paths, StopSignal().listen())
    except OtherProcessError:
        return 1  # the process that found the problem tells it
    except KennelError as error:
        _fail(paths, str(error))
        return 1
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            _fail(paths, f"The disk is full ({error}). {_MORE_ROOM}")
            return 1
        traceback.print_exc()
        _fail(paths, f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}")
        return 1
    return 0


def _quieten_all_but_the_first() -> None:
    """One line for all processes; each host's first one still warns, because its channels may have damaged files."""
    if os.environ.get("RANK", "0") != "0":
        leads_host = os.environ.get("LOCAL_RANK") == "0"
        logging.getLogger().setLevel(logging.WARNING if leads_host else logging.ERROR)


def _fail(paths: ContainerPaths, message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    try:
        paths.write_failure(message)
    except OSError as error:  # a full or read-only disk; the message above is all that is left to give
        print(f"error: cannot write {paths.failure_file}: {error.strerror}", file=sys.stderr, flush=True)


def _flags(tokens: Sequence[str]) -> dict[str, str]:
    """`--lr 0.1 --batch-size=8` as a mapping."""
    values: dict[str, str] = {}
    queue = list(tokens)
    while queue:
        token = queue.pop(0)
        if not token.startswith("--"):
            raise ConfigError([f"Unexpected argument '{token}'. Write hyperparameters as --name value."])
        name, equals, value = token[2:].partition("=")
        if not equals:
            if not queue:
                raise ConfigError([f"Hyperparameter '{name}' has no value. Write --{name} VALUE."])
            value = queue.pop(0)
        values[name] = value
    return values


def _predict(arguments: argparse.Namespace) -> int:
    from kennel.classifier.network.predictor import Predictor

    try:
        predictor = Predictor.load(arguments.model_dir)
        for photo in arguments.photos:
            try:
                image = predictor.tensor(photo)
            except ImageError as error:
                raise ImageError(f"{photo}: {error}.") from error
            row = predictor.probabilities(image.unsqueeze(0))[0]
            best = [{"label": p.label, "probability": p.probability} for p in predictor.top(row, arguments.top)]
            print(json.dumps({"path": str(photo), "predictions": best}, ensure_ascii=False))
    except KennelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kennel.classifier", description="Train and try an image classifier."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    rows = "\n".join(
        f"  --{row.name} {row.describe_range()} (default {row.default})\n      {row.help}"
        for row in HYPERPARAMETERS.values()
    )
    train = commands.add_parser(
        "train",
        help="train on the channels below a base folder",
        epilog=f"hyperparameters, which override those of hyperparameters.json:\n{rows}\n\n{_TRAIN_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = os.environ.get(BASE_DIR_VARIABLE) or BASE_DIR
    train.add_argument(
        "--base-dir",
        type=Path,
        default=Path(default),
        help=f"the job's folder (default {default}, from {BASE_DIR_VARIABLE})",
    )
    predict = commands.add_parser(
        "predict",
        help="classify photos with an artifact",
        epilog=_PREDICT_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("model_dir", type=Path, help="the artifact's folder")
    predict.add_argument("photos", type=Path, nargs="+", help="image files")
    predict.add_argument("--top", type=int, default=5, help="classes to list (default 5)")
    standby = commands.add_parser(
        "standby", help="wait in the base folder for a job of the local SageMaker, and run it"
    )
    standby.add_argument("seconds", type=float, help="how long to wait")
    commands.add_parser("hyperparameters", help="print the table of hyperparameters as Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(main())
