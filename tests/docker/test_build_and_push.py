"""build_and_push.sh without a daemon: a stand-in `docker` on PATH writes down what it is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images import ROOT

DOCKER = """\
#!/bin/sh
printf '%s\\n' "$*" >>"$DOCKER_LOG"
case "$*" in
    info) exit "${DOCKER_DOWN:-0}" ;;
    "buildx version") exit "${NO_BUILDX:-0}" ;;
    *.Size*) echo 4000000000 ;;
    *.Id*) echo sha256:0123 ;;
esac
"""


@dataclass(frozen=True)
class Done:
    """What a run of the script left."""

    returncode: int
    stdout: str
    stderr: str
    calls: list[str]  # docker's arguments, call by call

    @property
    def builds(self) -> list[str]:
        return [call for call in self.calls if "--file" in call]


Run = Callable[..., Done]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git tree of one commit that holds the script."""
    folder = tmp_path / "tree"
    (folder / "src/kennel").mkdir(parents=True)
    (folder / "src/kennel/__init__.py").write_text('__version__ = "1.2.3"\n')
    shutil.copy(ROOT / "build_and_push.sh", folder)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def run(tree: Path, tmp_path: Path) -> Run:
    """Run the script with the stand-in in front of PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(DOCKER)
    (programs / "docker").chmod(0o755)

    def start(*arguments: str, **environ: str) -> Done:
        log = tmp_path / "calls"
        log.write_text("")
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "KENNEL_", "BASE_IMAGE", "UV_"))
        }
        done = subprocess.run(
            [tree / "build_and_push.sh", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={
                **clean,
                "PATH": f"{programs}:/usr/bin:/bin",
                "DOCKER_LOG": str(log),
                "HOME": str(tmp_path),
                **environ,
            },
        )
        return Done(done.returncode, done.stdout, done.stderr, log.read_text().splitlines())

    return start


def tag(done: Done) -> str:
    assert done.returncode == 0, done.stderr
    tags = {line.split()[0].partition(":")[2] for line in done.stdout.splitlines()}
    assert len(tags) == 1
    return tags.pop()


def refused(done: Done) -> str:
    """The one sentence of an error."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_help_ends_in_examples_and_names_every_option(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    assert done.stdout.rstrip().splitlines()[-1].startswith("  ./build_and_push.sh ")
    script = (ROOT / "build_and_push.sh").read_text()
    for option in re.findall(r"^ +(?:-h \| )?(--[a-z0-9-]+)(?=\)| \|)", script, re.MULTILINE):
        assert option in done.stdout


def test_results_go_to_stdout_and_progress_to_stderr(run: Run, tree: Path) -> None:
    done = run("--no-push")
    revision = git(tree, "rev-parse", "--short=12", "HEAD")
    assert done.stdout == f"kennel-train:{revision} sha256:0123\nkennel-serve:{revision} sha256:0123\n"
    assert "building kennel-train" in done.stderr


def test_dirty_tag_is_decided_by_content(run: Run, tree: Path) -> None:
    clean = tag(run("--no-push"))
    (tree / "untracked").write_text("one")
    one = tag(run("--no-push"))
    assert re.fullmatch(f"{clean}-dirty-[0-9a-f]{{8}}", one)
    (tree / "untracked").write_text("two")
    assert tag(run("--no-push")) != one
    (tree / "untracked").write_text("one")
    assert tag(run("--no-push")) == one
    (tree / "src/kennel/__init__.py").write_text("changed")
    assert tag(run("--no-push")) != one
    assert git(tree, "status", "--porcelain") == "M src/kennel/__init__.py\n?? untracked"  # nothing was staged


def test_options_that_change_the_image_change_its_tag(run: Run) -> None:
    plain = tag(run("--no-push"))
    baked = ["--pretrained-url", "https://example.com/w.pth", "--pretrained-sha256"]
    tags = {
        plain,
        tag(run("--no-push", "--base-image", "debian:12")),
        tag(run("--no-push", *baked, "a" * 64)),
        tag(run("--no-push", *baked, "b" * 64)),
        tag(run("--no-push", "--platform", "linux/arm64")),
    }
    assert len(tags) == 5
    assert all(re.fullmatch(f"{plain}(-with-[0-9a-f]{{8}})?", one) for one in tags)
    assert tag(run("--no-push", "--only", "serve", "--serve-name", "mine")) == plain


def test_the_image_with_java_is_built_only_where_it_is_asked_for(run: Run) -> None:
    assert not any("mms" in build for build in run("--no-push").builds)
    done = run("--no-push", "--only", "serve-mms", "--serve-mms-name", "mine")
    (build,) = done.builds
    assert "--target serve-mms " in build
    assert done.stdout.startswith("mine:")


def test_buildx_makes_neither_provenance_nor_an_oci_image(run: Run) -> None:
    builds = run("--no-push").builds
    assert len(builds) == 2
    for call in builds:
        assert call.startswith("buildx build --provenance=false --sbom=false --output type=docker ")
        assert "--platform linux/amd64" in call


def test_without_buildx_the_classic_builder_gets_no_flag_it_does_not_know(run: Run) -> None:
    builds = run("--no-push", NO_BUILDX="1").builds
    assert [call.split()[0] for call in builds] == ["build", "build"]
    assert not any("provenance" in call or "--output" in call for call in builds)


def test_only_one_image_under_a_name_of_ones_own(run: Run) -> None:
    done = run("--no-push", "--only", "train", "--train-name", "team/dogs")
    assert done.stdout.startswith("team/dogs:")
    assert ["--target train" in call for call in done.builds] == [True]


@pytest.mark.parametrize(
    ("remote", "label"),
    [
        ("https://user:secret@example.com/kennel.git", "https://example.com/kennel.git"),
        ("git@example.com:kennel.git", "git@example.com:kennel.git"),
        ("/home/someone/kennel", "unknown"),
    ],
)
def test_source_label_has_neither_credentials_nor_paths(run: Run, tree: Path, remote: str, label: str) -> None:
    git(tree, "remote", "add", "origin", remote)
    done = run("--no-push", "--only", "serve")
    (build,) = done.builds
    assert f"--build-arg SOURCE={label} " in build
    assert "--build-arg VERSION=1.2.3 " in build


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--no-psuh"], "unknown argument '--no-psuh'"),
        (["--only"], "--only needs a value"),
        (["--only", "both"], "--only has value 'both'. Give train, serve or serve-mms."),
        (["--pretrained-url", "https://example.com/w.pth"], "belong together"),
        (["--pretrained-url", "u", "--pretrained-sha256", "abc"], "has value 'abc'. Give 64 hexadecimal digits"),
        (["--no-push", "--registry", "h"], "exclude each other"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(run: Run, arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert sentence in refused(done)
    assert done.calls == []


def test_no_daemon_is_one_sentence(run: Run) -> None:
    assert "no docker daemon answers. Start it" in refused(run("--no-push", DOCKER_DOWN="1"))


def test_no_git_tree_is_one_sentence(run: Run, tree: Path) -> None:
    shutil.rmtree(tree / ".git")
    assert "is not a git tree" in refused(run("--no-push"))


def test_no_commit_is_one_sentence(run: Run, tree: Path) -> None:
    shutil.rmtree(tree / ".git")
    git(tree, "init", "-q")
    assert "there is no commit to tag with" in refused(run("--no-push"))


def test_no_aws_command_is_known_before_the_build(run: Run) -> None:
    if shutil.which("aws", path="/usr/bin:/bin"):
        pytest.skip("the system has an aws command of its own")
    done = run()
    assert "the aws command is not on PATH" in refused(done)
    assert not done.builds


def test_no_credentials_are_known_before_the_build(run: Run, tmp_path: Path) -> None:
    aws = tmp_path / "bin/aws"
    aws.write_text("#!/bin/sh\necho 'Unable to locate credentials.' >&2\nexit 253\n")
    aws.chmod(0o755)
    done = run("--region", "eu-central-1")
    assert "cannot find the AWS account: Unable to locate credentials. Check AWS_PROFILE" in refused(done)
    assert not done.builds


def test_no_region_is_one_sentence(run: Run, tmp_path: Path) -> None:
    aws = tmp_path / "bin/aws"
    aws.write_text("#!/bin/sh\nexit 1\n")
    aws.chmod(0o755)
    assert "no AWS region is set. Give --region" in refused(run())
