"""The command line's words. What they do is in `commands`."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from kennel.contract.hyperparameters import HYPERPARAMETERS
from kennel.driver.requests.tuning import STRATEGIES
from kennel.driver.session.project import AWS, LOCAL

DESCRIPTION = """\
Train, deploy and ask image classifiers: the same requests, sent to the local SageMaker (the default) or to AWS
(--on aws). Settings come from the nearest kennel.toml; flags win."""


class Parser(argparse.ArgumentParser):
    """One sentence instead of the usage text."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and what was wrong."""
        self.exit(2, f"{self.prog}: {message.rstrip('.?')}{'?' if message.endswith('?') else '.'} Try --help.\n")


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; exits with 2 and one sentence, with a guess, when it is wrong."""
    parser, commands = build()
    if not argv:
        parser.print_help(sys.stderr)
        parser.exit(2)
    argv = _joined(argv, commands)
    words = [word for word in argv if not word.startswith("-")]
    if words and words[0] not in commands and not argv[0].startswith("-"):
        parser.error(f"unknown command '{words[0]}'{_guess(words[0], list(commands))}")
    arguments, extras = parser.parse_known_args(argv)
    if arguments.command in ("train", "tune"):  # argparse gives up a list of words at the first flag among them
        arguments.hyperparameters += [word for word in extras if not word.startswith("-")]
        extras = [word for word in extras if word.startswith("-")]
    if extras:
        chosen = commands[arguments.command]
        known = [flag for action in chosen._actions for flag in action.option_strings]  # argparse has no public list
        chosen.error(f"unknown argument '{extras[0]}'{_advice(arguments.command, extras[0], known)}")
    return arguments


def _advice(command: str, word: str, known: list[str]) -> str:
    flag = word.split("=", maxsplit=1)[0]
    name = flag.lstrip("-").replace("-", "_")
    if command in ("train", "tune"):
        meant = difflib.get_close_matches(name, HYPERPARAMETERS, n=1, cutoff=0.8)
        if meant and (name in HYPERPARAMETERS or not difflib.get_close_matches(flag, known, cutoff=0.8)):
            return f"; hyperparameters have no dashes, write {meant[0]}=VALUE"
    return _guess(flag, known)


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 1")
    return int(text)


def _joined(argv: list[str], commands: Mapping[str, object]) -> list[str]:
    """`tune show` is one command; a folder of that name is `./show`."""
    two = " ".join(argv[:2])
    return [two, *argv[2:]] if two in commands else argv


def _guess(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def build() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and those of its commands by name."""
    parser = Parser(
        prog="kennel",
        description=DESCRIPTION,
        epilog="example: kennel train ~/photos epochs=5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made = Commands(parser.add_subparsers(dest="command", required=True, metavar="COMMAND"))
    _server(made)
    _jobs(made)
    _tuning(made)
    _endpoints(made)
    _money(made)
    return parser, made.parsers


class Commands:
    """Adds commands that all have the common options, and an example at the end of their help."""

    def __init__(self, subparsers: Any) -> None:
        self._subparsers = subparsers
        self.parsers: dict[str, argparse.ArgumentParser] = {}

    def add(self, name: str, about: str, example: str, *, sends: bool = True) -> argparse.ArgumentParser:
        """A command; `sends` says whether it can talk to AWS."""
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            epilog=f"example: {example}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.parsers[name] = parser
        common = parser.add_argument_group("common options")
        if sends:
            common.add_argument("--on", choices=(LOCAL, AWS), help="where (default local, or as kennel.toml says)")
            common.add_argument("--region", metavar="NAME", help="of AWS")
        common.add_argument("--project", type=Path, metavar="FILE", help="instead of the nearest kennel.toml")
        common.add_argument("--json", action="store_true", help="the result as JSON")
        common.add_argument("-v", "--verbose", action="store_true", help="show the trace of an error")
        return parser


def _server(commands: Commands) -> None:
    up = commands.add(
        "up", "start the local SageMaker (any other command does so, too)", "kennel up --runner process", sends=False
    )
    up.add_argument("--runner", choices=("auto", "docker", "process"), help="what starts the images (default auto)")
    up.add_argument("--port", type=int, default=0, metavar="N", help="of 127.0.0.1 (default: any free one)")
    commands.add("down", "end the local SageMaker; nothing that it knows is lost", "kennel down", sends=False)
    commands.add("status", "show what runs", "kennel status", sends=False)
    env = commands.add(
        "env", "print the variables with which any AWS client talks to the local SageMaker", 'eval "$(kennel env)"',
        sends=False,
    )  # fmt: skip
    env.add_argument("--unset", action="store_true", help="print what takes them back")
    doctor = commands.add("doctor", "look for what is missing on this machine, or in the account", "kennel doctor")
    _account(doctor)
    data = commands.add(
        "data", "look at a data set before it costs anything", "kennel data check ~/photos", sends=False
    )
    data.add_argument("action", choices=("check",), help="what to do")
    data.add_argument("folder", type=Path, help="the folder that kennel train would be given")


def _account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", metavar="ARN", help="the role of jobs and models")
    parser.add_argument("--bucket", metavar="NAME", help="where data and artifacts go")


def _sending(parser: argparse.ArgumentParser, *, what: str) -> None:
    _account(parser)
    parser.add_argument("--instance-type", metavar="TYPE", help="such as ml.g4dn.xlarge")
    parser.add_argument("--instance-count", type=int, metavar="N", help="how many")
    parser.add_argument(
        "--network-isolation", action="store_true", default=None, help="no network inside the container"
    )
    parser.add_argument("--name", help=f"of the {what} (default: one with the time in it)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the JSON of the request and the estimated price, and send nothing"
    )
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="until it is done (default), or return at once",
    )


def training(parser: argparse.ArgumentParser, *, what: str) -> None:
    """The arguments of what trains: one job, or the trials of a tuning job."""
    parser.add_argument("data", nargs="?", help="a folder of class folders, one with train/ and validation/, or a URI")
    parser.add_argument("hyperparameters", nargs="*", metavar="name=value", help="see docs/training.md")
    parser.add_argument(
        "--channel", action="append", default=[], metavar="NAME=PLACE", help="another channel: a folder or a URI"
    )
    parser.add_argument("--pretrained", metavar="PLACE", help="the channel with the first weights: a folder or a URI")
    _sending(parser, what=what)
    parser.add_argument("--image", metavar="NAME", help="the train image")
    parser.add_argument("--volume-gb", type=int, metavar="N", help="disk of each machine")
    parser.add_argument("--max-runtime-minutes", type=int, metavar="N", help="a job is stopped then (default 1440)")
    parser.add_argument("--spot", action="store_true", default=None, help="spot machines, with checkpoints")
    parser.add_argument("--max-wait-minutes", type=int, metavar="N", help="with --spot: runtime and wait together")
    parser.add_argument("--checkpoint-uri", metavar="URI", help="where checkpoints are kept; auto: the job's own place")
    parser.add_argument("--input-mode", choices=("File", "FastFile"), help="how the data arrives")


def _jobs(commands: Commands) -> None:
    train = commands.add("train", "train on a folder of photos", "kennel train ~/photos epochs=5 lr=0.003")
    training(train, what="job")
    train.add_argument(
        "--from-tuning", metavar="JOB", help="with the best hyperparameters of a tuning job, on its data unless given"
    )
    train.add_argument("--keep-alive-minutes", type=int, metavar="N", help="keep the machine warm for the next job")
    train.add_argument("--logs", action="store_true", help="show every line that the job prints, instead of the bar")
    jobs = commands.add("jobs", "list training jobs", "kennel jobs --contains dogs")
    jobs.add_argument("--limit", type=_at_least_one, default=20, metavar="N", help="at most this many (default 20)")
    jobs.add_argument("--contains", default="", metavar="TEXT", help="only names with this text")
    logs = commands.add("logs", "print what a job, transform job or endpoint has printed", "kennel logs -f JOB")
    logs.add_argument("name", help="of the job or endpoint")
    logs.add_argument("-f", "--follow", action="store_true", help="until a training job is over, or Ctrl-C")
    kind = logs.add_mutually_exclusive_group()
    kind.add_argument("--endpoint", action="store_true", help="the name is an endpoint's")
    kind.add_argument("--transform", action="store_true", help="the name is a transform job's")
    rules = commands.add(
        "rules", "judge a run by debugger rules", "kennel rules JOB --rules Overfit:patience=3,DeadRelu"
    )
    rules.add_argument("what", metavar="JOB|PATH", help="a job, a folder of tensors, an output.tar.gz, or a URI")
    rules.add_argument("--rules", default="", metavar="NAME,NAME", help="auto (default), or Name:parameter=value,...")
    rules.add_argument("--custom", type=Path, metavar="FILE", help="Python file with a smdebug Rule of your own")
    report = commands.add("report", "write the profiler report of a run, or of two", "kennel report JOB --compare JOB2")
    report.add_argument("what", metavar="JOB|PATH", help="a job, its folder, output.tar.gz, or an s3:// URI")
    report.add_argument("--compare", metavar="JOB|PATH", help="another run, side by side")
    report.add_argument("--output", type=Path, metavar="DIR", help="where it is written (default report-JOB)")
    report.add_argument(
        "--usd-per-hour", type=float, metavar="USD", help="price of all machines (default: the table's)"
    )
    report.add_argument("--run", type=int, metavar="N", help="which run of a folder that holds several")
    stop = commands.add("stop", "stop training jobs; each saves what it has within 120 seconds", "kennel stop JOB")
    stop.add_argument("names", nargs="+", metavar="JOB", help="training jobs")
    stop.add_argument("--transform", action="store_true", help="they are transform jobs")


def _tuning(commands: Commands) -> None:
    tune = commands.add(
        "tune",
        "find the best hyperparameters by many trainings",
        "kennel tune ~/photos epochs=5 --tune lr=log:1e-5..1e-1 --tune batch_size=16,32,64",
    )
    training(tune, what="tuning job")
    search = tune.add_argument_group("search")
    search.add_argument(
        "--tune", action="append", default=[], metavar="NAME=RANGE",
        help="log:1e-5..1e-1, 2..10 or 16,32,64; once for each hyperparameter",
    )  # fmt: skip
    search.add_argument("--objective", metavar="METRIC", help="what decides (default validation:accuracy)")
    search.add_argument("--strategy", type=str.capitalize, choices=STRATEGIES, help="(default Bayesian)")
    search.add_argument("--max-jobs", type=int, metavar="N", help="trials (default 20)")
    search.add_argument("--parallel", type=int, metavar="N", help="trials at a time (default 2)")
    search.add_argument("--max-total-minutes", type=int, metavar="N", help="of the whole (default: no limit)")
    search.add_argument(
        "--early-stopping", action="store_true", default=None, help="stop trials that are worse than the median"
    )
    search.add_argument("--min-epochs", type=int, metavar="N", help="Hyperband: the least of a trial (default 1)")
    search.add_argument("--seed", type=int, metavar="N", help="the same one gives the same suggestions")
    search.add_argument("--target", type=float, metavar="VALUE", help="enough when the objective is so good")
    search.add_argument("--not-improving", type=int, metavar="N", help="enough after N trials without a better one")
    search.add_argument("--converged", action="store_true", default=None, help="enough when nothing better is expected")
    search.add_argument(
        "--prune-on", type=_names, metavar="RULE,RULE", help="debugger rules that end a trial, such as ExplodingTensor"
    )
    search.add_argument(
        "--warm-start", action="append", default=[], metavar="JOB", help="a tuning job whose trials are known already"
    )
    search.add_argument("--transfer", action="store_true", help="with --warm-start: its data or image differ")
    _shown_tuning(commands)


def _shown_tuning(commands: Commands) -> None:
    show = commands.add("tune show", "show what a tuning job found, as text and as a page", "kennel tune show JOB")
    show.add_argument("name", metavar="JOB", help="of the tuning job")
    show.add_argument("--best", action="store_true", help="print the best hyperparameters as JSON, and nothing else")
    show.add_argument("--html", type=Path, metavar="FILE", help="where the page goes (default: below KENNEL_HOME)")
    show.add_argument("-f", "--follow", action="store_true", help="until it is over, or Ctrl-C")
    jobs = commands.add("tune jobs", "list tuning jobs", "kennel tune jobs")
    jobs.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many (default 20)")
    jobs.add_argument("--contains", default="", metavar="TEXT", help="only names with this text")
    stop = commands.add("tune stop", "stop tuning jobs and their trials", "kennel tune stop JOB")
    stop.add_argument("names", nargs="+", metavar="JOB", help="tuning jobs")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _endpoints(commands: Commands) -> None:
    deploy = commands.add("deploy", "serve a job's artifact at an endpoint", "kennel deploy JOB --name dogs")
    deploy.add_argument("what", metavar="JOB|ARTIFACT", help="a job's name, model.tar.gz, a model folder, or a URI")
    _sending(deploy, what="endpoint; one that exists is updated without dropping a request")
    deploy.add_argument("--image", metavar="NAME", help="the serve image")
    deploy.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="environment of the container")
    deploy.add_argument("--serverless", action="store_true", help="runs only while it is asked")
    deploy.add_argument("--serverless-memory-mb", type=int, metavar="N", help="1024 to 6144")
    deploy.add_argument("--async", dest="asynchronous", action="store_true", help="requests and answers in storage")
    deploy.add_argument("--capture", type=int, default=0, metavar="PERCENT", help="keep requests and answers")
    deploy.add_argument("--autoscale", metavar="MIN:MAX", help="on AWS: that many instances, by the load")
    deploy.add_argument(
        "--autoscale-invocations", type=float, default=70.0, metavar="N", help="a minute for each instance (default 70)"
    )
    predict = commands.add("predict", "ask an endpoint about photos", "kennel predict dogs photo.jpg --top-k 3")
    predict.add_argument("endpoint", help="its name")
    predict.add_argument("photos", nargs="+", type=Path, help="image files, or folders of them")
    predict.add_argument("--top-k", type=_at_least_one, default=5, metavar="N", help="classes to list (default 5)")
    predict.add_argument("--heat-maps", type=Path, metavar="DIR", help="write where the network looked, as PNG files")
    predict.add_argument("--async", dest="asynchronous", action="store_true", help="the endpoint is asynchronous")
    predict.add_argument("--variant", default="", metavar="NAME", help="ask this variant")
    transform = commands.add(
        "transform", "classify every image of a folder or prefix", "kennel transform JOB ~/photos/test --output answers"
    )
    transform.add_argument("what", metavar="MODEL|JOB|ARTIFACT", help="a model, or what kennel deploy takes")
    transform.add_argument("data", help="a folder or an s3:// prefix")
    transform.add_argument("--output", metavar="PLACE", help="a folder or a URI for the answers")
    _sending(transform, what="transform job")
    transform.add_argument("--image", metavar="NAME", help="the serve image")
    commands.add("endpoints", "list endpoints", "kennel endpoints")


def _money(commands: Commands) -> None:
    clean = commands.add("clean", "delete everything that was created, and name what is left", "kennel clean --dry-run")
    clean.add_argument("--data", action="store_true", help="uploaded data and archives, too")
    clean.add_argument("--dry-run", action="store_true", help="only show what would be deleted")
    commands.add("cost", "estimate what everything recorded has cost", "kennel cost --on aws")
