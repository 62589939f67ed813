"""`python -m serving serve`: what SageMaker runs as `docker run IMAGE serve`; `python -m serving pack`."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from kennel.contract.errors import KennelError
from serving import logs
from serving.server import run
from serving.settings import FRONTS, Settings

_EXAMPLE = "example: python -m serving serve --model-dir model --port 8080"
_PACK_EXAMPLE = "example: python -m serving pack --model-dir model --precision int8 --calibration photos/validation"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of the usage text."""
        self.exit(2, f"{self.prog}: {message}. Try --help.\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; exits with 2 and one sentence when it is wrong."""
    parser = _Parser(
        prog="serving", description="Serve an image classifier over HTTP, or pack one for it.", epilog=_EXAMPLE
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve|pack")
    serve = commands.add_parser("serve", help="answer /ping and /invocations", epilog=_EXAMPLE, allow_abbrev=False)
    serve.add_argument("--front", choices=FRONTS, help="default: KENNEL_FRONT, else native")
    serve.add_argument("--model-dir", type=Path, help="the folder that training wrote (default: the container's)")
    serve.add_argument("--host", help="address to listen on (default: KENNEL_HOST, else 127.0.0.1)")
    serve.add_argument("--port", type=int, help="default: SAGEMAKER_BIND_TO_PORT, else 8080; 0: any free one")
    pack = commands.add_parser(
        "pack", help="convert an artifact for OpenVINO, beside its weights", epilog=_PACK_EXAMPLE, allow_abbrev=False
    )
    pack.add_argument("--model-dir", type=Path, required=True, help="the folder that training wrote")
    pack.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="fp32 serves bf16, too")
    pack.add_argument("--calibration", type=Path, help="for int8: a folder with a folder of images for each class")
    options, extras = parser.parse_known_args(arguments)
    if extras:
        chosen = {"serve": serve, "pack": pack}[options.command]
        known = [flag for action in chosen._actions for flag in action.option_strings]  # argparse has no public list
        close = difflib.get_close_matches(extras[0], known, n=1)
        chosen.error(f"unknown argument '{extras[0]}'" + (f"; did you mean '{close[0]}'?" if close else ""))
    return options


def _serve(options: argparse.Namespace) -> None:
    given = {"front": options.front, "model_dir": options.model_dir, "host": options.host, "port": options.port}
    logs.configure()
    run(Settings.from_environ(**given))


def _pack(options: argparse.Namespace) -> None:
    from serving.engines.pack import pack  # imports torch and OpenVINO: seconds

    logging.basicConfig(level=logging.WARNING)
    for line in pack(options.model_dir, options.precision, options.calibration):
        print(line, flush=True)


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; 0 after a clean stop, 1 with one sentence when the model cannot be served."""
    options = parse(arguments)
    try:
        {"serve": _serve, "pack": _pack}[options.command](options)
    except KennelError as error:
        print(f"serving: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        logs.fault("fault", error)
        print(f"serving: {type(error).__name__}: {error}. The log has the traceback.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a stop may come while a worker still imports torch or decodes; nothing is left to save
