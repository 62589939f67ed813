"""`python -m kennel.emulator serve`: the local SageMaker."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from kennel.emulator.errors import EmulatorError
from kennel.emulator.runners import CHOICES
from kennel.emulator.state.home import DEFAULT_HOME, HOME_VARIABLE, Home

_EXAMPLE = "example: python -m kennel.emulator serve --home ~/.kennel --port 4321"
_INTERRUPT = "example: python -m kennel.emulator interrupt my-job"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of the usage text."""
        self.exit(2, f"{self.prog}: {message}. Try --help.\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; exits with 2 and one sentence when it is wrong."""
    parser = _Parser(prog="kennel.emulator", description="SageMaker's API on this machine.", epilog=_EXAMPLE)
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve|interrupt|coverage")
    serve = commands.add_parser("serve", help="answer until SIGTERM", epilog=_EXAMPLE, allow_abbrev=False)
    serve.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: any free one, see emulator.json)")
    serve.add_argument("--runner", choices=CHOICES, default="auto", help="what starts the images (default: auto)")
    serve.add_argument("--region", default="us-east-1", help="in ARNs and signatures (default: us-east-1)")
    serve.add_argument("--max-payload-bytes", type=int, help="of an invocation (default: SageMaker's 6 MiB)")
    interrupt = commands.add_parser(
        "interrupt", help="take the spot instances of a training job away", epilog=_INTERRUPT, allow_abbrev=False
    )
    interrupt.add_argument("name", help="of a job with EnableManagedSpotTraining")
    for command in (serve, interrupt):
        command.add_argument("--home", type=Path, help=f"default: {HOME_VARIABLE}, else {DEFAULT_HOME}")
    commands.add_parser("coverage", help="print what becomes of every member of the requests, as Markdown")
    return parser.parse_args(arguments)


def _serve(options: argparse.Namespace) -> None:
    from kennel.emulator.server import Settings, serve  # imports the web server and AWS's models: half a second

    home = _home(options)
    given = {"payload_limit_bytes": options.max_payload_bytes} if options.max_payload_bytes else {}
    settings = Settings(home, options.port, options.runner, options.region, **given)
    serve(settings, lambda url: print(f"kennel.emulator: {url}, home {home.path}", file=sys.stderr, flush=True))


def _home(options: argparse.Namespace) -> Home:
    return Home(options.home.expanduser().absolute()) if options.home else Home.from_environ()


def _interrupt(options: argparse.Namespace) -> None:
    """Leave the sign that who runs the job looks for; it starts again from its checkpoints."""
    from kennel.emulator.documents.training import ENDED, KIND
    from kennel.emulator.state.store import MissingError, Store

    name, home = options.name, _home(options)
    try:
        folder = home.job_dir(name)
        if not home.state_file.is_file():  # opening it would make it
            raise MissingError
        job = Store(home.state_file).get(KIND, name)
    except ValueError as error:
        raise EmulatorError(str(error)) from error
    except MissingError as error:
        raise EmulatorError(f"There is no training job '{name}' in {home.path}. Check --home.") from error
    if job["TrainingJobStatus"] in ENDED:
        raise EmulatorError(f"The training job '{name}' has ended ({job['TrainingJobStatus']}); nothing of it runs.")
    if not job.get("EnableManagedSpotTraining"):
        raise EmulatorError(
            f"The training job '{name}' has no spot instances. Only a job with EnableManagedSpotTraining can lose them."
        )
    (folder / "interrupt").touch()
    print(f"The instances of '{name}' are taken away; it starts again from its checkpoints.", file=sys.stderr)


def _coverage(options: argparse.Namespace) -> None:  # noqa: ARG001 - the shape of a command
    from kennel.emulator.service_model.coverage import markdown_tables

    print(markdown_tables(), end="")


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; 0 after a clean stop, 1 with one sentence when it cannot be done."""
    options = parse(arguments)
    try:
        {"serve": _serve, "interrupt": _interrupt, "coverage": _coverage}[options.command](options)
    except EmulatorError as error:
        print(f"kennel.emulator: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(
        status
    )  # not after threads that wait for an S3 that does not answer: the next server begins their work anew
