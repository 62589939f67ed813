"""The command line itself: help, mistakes, what goes where."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kennel.driver.commands import COMMANDS
from kennel.driver.commands.parser import build, parse
from tests.driver.conftest import Kennel

ROOT = Path(__file__).parents[2]
PARSERS = build()[1]


def test_every_command_does_something() -> None:
    assert set(PARSERS) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_every_help_ends_in_an_example_of_the_command(name: str) -> None:
    last = PARSERS[name].format_help().strip().splitlines()[-1]
    assert re.match(rf'example: (eval "\$\()?kennel {name}\b', last), last


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_every_example_is_a_command_line_that_is_understood(name: str) -> None:
    example = re.search(r"kennel ([^)\n]*)", str(PARSERS[name].epilog))
    assert example
    words = example[1].rstrip('"').split()
    assert parse(words).command == name


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_every_command_and_flag_is_documented(name: str) -> None:
    page = (ROOT / "docs/driver.md").read_text(encoding="utf-8")
    assert f"`kennel {name}" in page
    flags = {flag for action in PARSERS[name]._actions for flag in action.option_strings if flag.startswith("--")}
    missing = [flag for flag in flags if f"`{flag}" not in page and not flag.startswith("--no-")]
    assert not missing


def test_the_real_command_is_installed() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "kennel", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("example: kennel train ~/photos epochs=5\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "x", "--instance-typ", "y"], "unknown argument '--instance-typ'; did you mean '--instance-type'?"),
        (["predict", "e"], "the following arguments are required: photos"),
        (["jobs", "--limit", "x"], "argument --limit: 'x' is no whole number of at least 1"),
        (["jobs", "--limit", "0"], "argument --limit: '0' is no whole number of at least 1"),
        (
            ["train", "x", "--epochs", "3"],
            "unknown argument '--epochs'; hyperparameters have no dashes, write epochs=V",
        ),
        (["train", "x", "--epocs", "3"], "hyperparameters have no dashes, write epochs=V"),
        (["tune", "x", "--lr", "3"], "hyperparameters have no dashes, write lr=V"),
        (["tune", "x", "--naem", "y"], "unknown argument '--naem'; did you mean '--name'?"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(kennel: Kennel, words: list[str], said: str) -> None:
    done = kennel(*words)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


def test_without_a_command_the_help_shows_what_there_is(kennel: Kennel) -> None:
    done = kennel()
    assert (done.code, done.out) == (2, "")
    assert "train on a folder of photos" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "nowhere"], "kennel: The data folder "),
        (["train", ".", "epoch=3"], "kennel: Unknown hyperparameter 'epoch'. Did you mean 'epochs'?"),
        (["train", ".", "epochs"], "kennel: Unexpected argument 'epochs'. Write hyperparameters as name=value."),
        (["train", "epochs=3"], "kennel: No training data."),
        (["train", ".", "--channel", "x"], "kennel: --channel is 'x'."),
        (["train", ".", "--instance-count", "0"], "kennel: 'train.instance_count' is 0; use at least 1."),
        (["deploy", "s3://b/m.tar.gz", "--autoscale", "1:2", "--dry-run"], "has no target tracking"),
        (["deploy", "s3://b/m.tar.gz", "--serverless", "--async", "--dry-run"], "not both"),
        (["jobs", "--project", "none.toml"], "kennel: none.toml cannot be read"),
    ],
)
def test_a_known_error_is_a_line_without_a_trace(kennel: Kennel, words: list[str], said: str) -> None:
    done = kennel(*words)
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_the_trace_is_for_those_who_ask(kennel: Kennel) -> None:
    assert "Traceback" in kennel("train", "nowhere", "-v").err


def test_a_dry_run_is_pure_json_and_starts_nothing(kennel: Kennel, dataset: Path) -> None:
    import json

    done = kennel("train", dataset, "--dry-run", "epochs=2", "--pretrained", dataset)
    request = json.loads(done.out)
    uris = {c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in request["InputDataConfig"]}
    assert uris["validation"] == f"{(dataset / 'valid').as_uri()}/"
    assert uris["pretrained"] == f"{dataset.as_uri()}/"
    assert done.err == ""
    assert not kennel.home.exists()


def test_flags_win_over_the_project_file(kennel: Kennel, dataset: Path) -> None:
    import json

    kennel.write_project("[train]\ninstance_count = 2\n[hyperparameters]\nepochs = 9\nbatch_size = 8\n")
    request = json.loads(kennel("train", dataset, "--dry-run", "epochs=2", "--instance-count", "3").out)
    assert request["HyperParameters"] == {"epochs": "2", "batch_size": "8"}
    assert request["ResourceConfig"]["InstanceCount"] == 3
    alone = json.loads(kennel("train", "--channel", f"train={dataset}", "lr=0.1", "--dry-run").out)
    assert alone["HyperParameters"] == {"epochs": "9", "batch_size": "8", "lr": "0.1"}
    assert [channel["ChannelName"] for channel in alone["InputDataConfig"]] == ["train"]


def test_a_hyperparameter_counts_once_in_either_spelling(kennel: Kennel, dataset: Path) -> None:
    import json

    kennel.write_project('[hyperparameters]\n"batch-size" = 8\n[tune.space]\n"weight-decay" = "0.1,0.2"\n')
    for word in ("batch_size=16", "batch-size=16"):
        request = json.loads(kennel("train", dataset, "--dry-run", word).out)
        assert request["HyperParameters"] == {"batch_size": "16"}
    tuned = ("--tune", "weight_decay=0.1,0.3", "--tune", "lr=0.1,0.2")
    request = json.loads(kennel("tune", dataset, "--dry-run", *tuned).out)
    ranges = request["HyperParameterTuningJobConfig"]["ParameterRanges"]["CategoricalParameterRanges"]
    assert {one["Name"]: one["Values"] for one in ranges} == {"weight_decay": ["0.1", "0.3"], "lr": ["0.1", "0.2"]}
    assert request["TrainingJobDefinition"]["StaticHyperParameters"] == {"batch_size": "8"}
    request = json.loads(kennel("tune", dataset, "--dry-run", "--tune", "batch-size=8,16").out)
    assert request["TrainingJobDefinition"]["StaticHyperParameters"] == {}


def test_two_spellings_with_two_values_are_one_error_that_names_both(kennel: Kennel, dataset: Path) -> None:
    sentence = "Hyperparameter 'batch-size' has value '8' and, as 'batch_size', value '16'"
    refused = kennel("train", dataset, "--dry-run", "batch-size=8", "batch_size=16")
    assert (refused.code, sentence in refused.err, "Traceback" in refused.err) == (1, True, False)
    kennel.write_project('[hyperparameters]\n"batch-size" = 8\nbatch_size = 16\n')
    assert sentence in kennel("train", dataset, "--dry-run").err


def test_colour_is_for_terminals_and_no_color_is_honoured(kennel: Kennel) -> None:
    assert "\x1b[" not in kennel("doctor").out
    for environ, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        master, slave = pty.openpty()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "NO_COLOR"))}
        with os.fdopen(slave, "wb") as terminal:
            subprocess.run(
                [sys.executable, "-m", "kennel.driver", "doctor"],
                env={**clean, "KENNEL_HOME": str(kennel.home), "TERM": "xterm", **environ},
                stdout=terminal, stderr=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        with os.fdopen(master, "rb") as screen:
            assert (b"\x1b[32m" in screen.read1(65536)) is coloured


def test_a_wait_is_a_bar_on_a_terminal(kennel: Kennel, photos: Path) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "wb") as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "kennel.driver", "data", "check", str(photos)],
            env={**os.environ, "TERM": "xterm", "KENNEL_HOME": str(kennel.home)},
            stdout=subprocess.PIPE, stderr=terminal, text=True, check=True,
        )  # fmt: skip
    with os.fdopen(master, "rb") as screen:
        drawn = screen.read1(65536).decode()
    assert "━" in drawn
    assert "train: 12 of 12 files" in drawn
    assert done.stdout.startswith("ok    train       12 images")


def test_what_needs_no_emulator_starts_none(kennel: Kennel) -> None:
    for words in (["status"], ["down"], ["cost"], ["clean"], ["doctor"]):
        assert kennel(*words).code == 0
    assert not (kennel.home / "emulator.json").exists()


def test_the_driver_imports_neither_torch_nor_boto3_for_its_help() -> None:
    code = (
        "import sys; from kennel.driver.commands.parser import build; import kennel.driver.__main__; build();"
        "bad = {'torch', 'boto3', 'botocore', 'PIL', 'numpy', 'rich'} & set(sys.modules); sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
