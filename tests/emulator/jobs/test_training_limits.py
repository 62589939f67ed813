"""What a job is refused, what it cannot reach, and what becomes of it when things go wrong."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from kennel.contract.presence import start_time
from kennel.emulator.runners.namespaces import possible
from kennel.emulator.runners.processes import descendants
from tests.emulator.jobs.conftest import Platform, both, channel, job_document
from tests.images import docker


def refusals(platform: Platform, **members: Any) -> str:
    return " | ".join(platform.jobs.refusals(job_document("job", "", platform.output, **members)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"CompressionType": "Gzip"}, "CompressionType Gzip is for Pipe mode only"),
        ({"RecordWrapperType": "RecordIO"}, "RecordWrapperType RecordIO is for Pipe mode only"),
        ({"source": {"S3DataType": "AugmentedManifestFile"}}, "AugmentedManifestFile is for Pipe mode only"),
        ({"source": {"S3DataType": "ManifestFile"}, "InputMode": "FastFile"}, "FastFile mode reads S3Prefix only"),
        ({"source": {"S3DataType": "Converse"}}, "S3DataType Converse is not known"),
        ({"source": {"S3Uri": "file:///no/such/folder"}}, "there is no /no/such/folder on this machine"),
        ({"source": {"S3Uri": "file://relative"}}, "is no URI of data"),
        ({"source": {"S3Uri": "https://host/x"}}, "is no URI of data"),
        ({"source": {"InstanceGroupNames": ["gpu"]}}, "InstanceGroupNames has 'gpu'"),
        ({"DataSource": {"FileSystemDataSource": {}}}, "reads S3DataSource only"),
    ],
)
def test_a_channel_that_cannot_be_delivered_is_refused(
    platform: Platform, changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    assert sentence in refusals(platform, InputDataConfig=[channel("train", tmp_path.as_uri(), **changes)])


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"EnableManagedSpotTraining": True}, "needs StoppingCondition.MaxWaitTimeInSeconds"),
        (
            {"EnableManagedSpotTraining": True, "StoppingCondition": {"MaxWaitTimeInSeconds": 1}},
            "MaxWaitTimeInSeconds (1) must be MaxRuntimeInSeconds (86400) or more",
        ),
        ({"StoppingCondition": {"MaxWaitTimeInSeconds": 1}}, "is for managed spot jobs"),
        (
            {"AlgorithmSpecification": {"MetricDefinitions": [{"Name": "m", "Regex": "x=.*"}]}},
            "has no group. Put the number in parentheses",
        ),
        ({"AlgorithmSpecification": {"MetricDefinitions": [{"Name": "m", "Regex": "("}]}}, "is none"),
        ({"OutputDataConfig": {"S3OutputPath": "ftp://x"}}, "OutputDataConfig.S3OutputPath: 'ftp://x' is no URI"),
        ({"CheckpointConfig": {"S3Uri": "x"}}, "CheckpointConfig.S3Uri: 'x' is no URI"),
        ({"EnableNetworkIsolation": True, "ResourceConfig": {"InstanceCount": 2}}, "use the docker runner"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused(platform: Platform, members: dict[str, Any], sentence: str) -> None:
    assert sentence in refusals(platform, **members)


def test_channels_of_one_name_are_refused(platform: Platform, tmp_path: Path) -> None:
    twice = [channel("train", tmp_path.as_uri())] * 2
    assert "has the channel 'train' twice" in refusals(platform, InputDataConfig=twice)


@pytest.mark.parametrize("name", [".", ".."])
def test_channel_names_cannot_leave_the_folder(platform: Platform, tmp_path: Path, name: str) -> None:
    assert "cannot be that of a folder" in refusals(platform, InputDataConfig=[channel(name, tmp_path.as_uri())])


TRY_TO_WRITE = (
    "for name in ('folder/new', 'folder/a', 'file/a', 'part/a'):\n"
    "    try: (base / 'input/data' / name).write_text('mine'); print(name, 'was written')\n"
    "    except OSError as e: print(e.strerror)"
)


@both
def test_data_of_this_machine_cannot_be_written(platform: Platform, tmp_path: Path) -> None:
    if platform.runner.name == "process" and not possible():
        pytest.skip("this machine has no namespaces; see docs/security.md")
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("theirs")
    sharded = {"S3DataDistributionType": "ShardedByS3Key"}
    channels = [channel("folder", data.as_uri()), channel("file", (data / "a").as_uri())]
    channels.append(channel("part", data.as_uri(), source=sharded))  # hard links
    platform.complete(TRY_TO_WRITE, InputDataConfig=channels, ResourceConfig={"InstanceCount": 2})
    assert platform.lines(host="algo-1") == ["Read-only file system"] * 4
    assert {path.name: path.read_text() for path in data.iterdir()} == {"a": "theirs"}


def test_what_was_mounted_stays_when_the_place_of_it_is_removed(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/sub/a").write_text("theirs")
    platform.complete("", InputDataConfig=[channel("c", (tmp_path / "data").as_uri())])
    assert not (platform.home.job_dir("job") / "hosts").exists()
    assert (tmp_path / "data/sub/a").read_text() == "theirs"


def test_two_jobs_of_two_hosts_at_once_meet_on_ports_of_their_own(platform: Platform) -> None:
    program = (
        "import socket; me = json.loads((base / 'input/config/resourceconfig.json').read_text())['current_host']\n"
        "port = int(os.environ['MASTER_PORT']); print('port', port)\n"
        "if me == 'algo-1': listener = socket.create_server(('', port)); print('listens')\n"
        "while not (base / 'output/data/go').exists(): time.sleep(.05)\n"
    )
    for name in ("one", "two"):
        platform.start(program, name, ResourceConfig={"InstanceCount": 2})
    for name in ("one", "two"):
        platform.wait_for(lambda name=name: "listens" in platform.lines(name) and platform.lines(name, "algo-2"))
        for host in ("algo-1", "algo-2"):
            (platform.home.job_dir(name) / f"hosts/{host}/ml/output/data/go").touch()
        platform.jobs.wait(name, 30)
        assert platform.describe(name)["TrainingJobStatus"] == "Completed"
    ports = {name: {platform.lines(name, host)[0] for host in ("algo-1", "algo-2")} for name in ("one", "two")}
    assert [len(found) for found in ports.values()] == [1, 1]
    assert ports["one"] != ports["two"]


def test_a_port_that_the_user_chose_stays(platform: Platform) -> None:
    platform.complete(
        "print(os.environ['MASTER_PORT'])", ResourceConfig={"InstanceCount": 2}, Environment={"MASTER_PORT": "29511"}
    )
    assert platform.lines(host="algo-1") == platform.lines(host="algo-2") == ["29511"]


@pytest.mark.docker
@pytest.mark.parametrize("runner_name", ["docker"], indirect=True)
def test_a_container_sees_only_what_the_uris_name(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").write_text("s")
    platform.complete(
        "print(sorted({line.split()[4] for line in open('/proc/self/mountinfo') if '/opt/ml' in line.split()[4]}))\n"
        "print((base / 'input/data/c/../secret').exists())",
        InputDataConfig=[channel("c", (tmp_path / "data").as_uri())],
    )
    mounts, outside = platform.lines()
    assert mounts == "['/opt/ml/input', '/opt/ml/input/data/c', '/opt/ml/model', '/opt/ml/output']"
    assert outside == "False"


@pytest.mark.docker
@pytest.mark.parametrize("runner_name", ["docker"], indirect=True)
def test_a_link_that_a_container_leaves_does_not_bring_files_of_this_machine(
    platform: Platform, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("the machine's own")
    program = (
        f"import shutil; s = '{tmp_path / 'secret'}'\n"
        "os.symlink(s + '/key', base / 'model/key'); os.symlink(s, base / 'model/folder')\n"
        "shutil.rmtree(base / 'output/data'); os.symlink(s, base / 'output/data')\n"
        "os.symlink(s, base / 'output/tensors'); os.symlink(s + '/key', base / 'output/failure')\n"
        "(base / 'model/fine').write_text('f'); print('linked'); time.sleep(5); sys.exit(1)"
    )
    document = platform.run(program, DebugHookConfig={"S3OutputPath": (tmp_path / "debug").as_uri()})
    assert "the machine's own" not in document["FailureReason"]
    assert platform.members() == {"fine": "f"}
    assert not (platform.output_dir() / "output.tar.gz").exists()
    assert not [path for path in (tmp_path / "debug").rglob("*") if path.is_file()]


@both
def test_an_image_is_no_option(platform: Platform, tmp_path: Path) -> None:
    algorithm = {"TrainingImage": f"--volume={tmp_path}:/machine", "ContainerArguments": ["kennel-tiny:test", "train"]}
    document = platform.run("", AlgorithmSpecification=algorithm)
    assert document["TrainingJobStatus"] == "Failed"
    wanted = "is no image's name" if platform.runner.name == "docker" else "There is no command for the image"
    assert wanted in document["FailureReason"]


@pytest.mark.parametrize("mode", ["File", "Pipe"])
def test_a_link_out_of_the_data_is_not_followed(platform: Platform, tmp_path: Path, mode: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").write_text("the machine's own")
    (tmp_path / "data/plain").write_text("p")
    (tmp_path / "data/link").symlink_to(tmp_path / "secret")
    source = {"S3DataDistributionType": "ShardedByS3Key"}
    document = platform.run(
        "print(open(base / 'input/data/c_0').read()); time.sleep(60)",
        InputDataConfig=[channel("c", (tmp_path / "data").as_uri(), InputMode=mode, source=source)],
        ResourceConfig={"InstanceCount": 2},
    )
    assert document["TrainingJobStatus"] == "Failed"
    assert "is a link out of" in document["FailureReason"]
    assert "the machine's own" not in platform.log()


@both
def test_a_local_path_that_leads_out_uploads_nothing(platform: Platform, tmp_path: Path) -> None:
    for member in ("DebugHookConfig", "TensorBoardOutputConfig"):
        out = {"S3OutputPath": (tmp_path / "out").as_uri(), "LocalPath": "/opt/ml/output/../../../etc"}
        document = platform.run("", f"job-{member[0]}", **{member: out})
        if platform.runner.name == "process":
            assert "is not below /opt/ml" in document["FailureReason"]
    assert not [path for path in tmp_path.glob("out/**/*") if path.is_file()]


@pytest.mark.parametrize("data_type", ["ManifestFile", "AugmentedManifestFile"])
def test_a_manifest_names_no_file_outside_its_folder(platform: Platform, tmp_path: Path, data_type: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").write_text("s")
    manifest, outside = tmp_path / "data/m", (tmp_path / "secret").as_uri()
    augmented = data_type == "AugmentedManifestFile"
    manifest.write_text(
        json.dumps({"source-ref": outside}) if augmented else json.dumps([{"prefix": outside[:-6]}, "secret"])
    )
    source = {"S3DataType": data_type} | ({"AttributeNames": ["source-ref"]} if augmented else {})
    mode = "Pipe" if augmented else "File"
    document = platform.run(
        "open(base / 'input/data/c_0').read(); time.sleep(60)",
        InputDataConfig=[channel("c", manifest.as_uri(), InputMode=mode, source=source)],
    )
    assert document["TrainingJobStatus"] == "Failed"
    assert "not below the manifest's own folder" in document["FailureReason"]


def test_a_manifest_whose_names_lead_out_of_the_channel_is_refused(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/x").write_text("x")
    manifest = tmp_path / "data/m"
    manifest.write_text(json.dumps([{"prefix": (tmp_path / "data/sub").as_uri() + "/"}, "../x"]))
    document = platform.run(
        "", InputDataConfig=[channel("c", manifest.as_uri(), source={"S3DataType": "ManifestFile"})]
    )
    assert "is no path below a folder" in document["FailureReason"]


@both
def test_a_lost_program_is_tried_again_when_the_retry_strategy_says_so(platform: Platform, tmp_path: Path) -> None:
    flag = tmp_path / "flags"
    flag.mkdir()
    platform.start(
        "f = base / 'checkpoints/seen'\n"
        "if f.exists(): print('second'); sys.exit(0)\n"
        "f.touch(); print('first')\nwhile True: time.sleep(.1)",
        CheckpointConfig={"S3Uri": flag.as_uri()},
        RetryStrategy={"MaximumRetryAttempts": 1},
    )
    platform.wait_for_line("first")
    [handle] = platform.runner.find("kennel.job", "job")
    lose(platform, handle)
    platform.jobs.wait("job", 40)
    assert platform.describe()["TrainingJobStatus"] == "Completed", platform.describe()
    assert "Restarting" in platform.statuses()
    assert "The job is tried again: InternalServerError" in platform.warnings()


@both
def test_a_lost_program_fails_the_job(platform: Platform) -> None:
    platform.start("print('up')\nwhile True: time.sleep(.1)")
    platform.wait_for_line("up")
    [handle] = platform.runner.find("kennel.job", "job")
    lose(platform, handle)
    platform.jobs.wait("job", 40)
    document = platform.describe()
    assert document["TrainingJobStatus"] == "Failed"
    assert document["FailureReason"].startswith("InternalServerError: algo-1: ")


def lose(platform: Platform, handle: str) -> None:
    if platform.runner.name == "docker":
        docker("rm", "--force", handle)
        return
    process = json.loads((Path(handle) / "process.json").read_text())
    os.kill(process["pid"], signal.SIGKILL)
    platform.wait_for(lambda: start_time(process["program"]) is None)  # the program does not outlive its parent


def test_what_a_program_leaves_running_ends_with_it(platform: Platform) -> None:
    platform.complete(
        "import subprocess; p = subprocess.Popen(['sleep', '1000'], start_new_session=True); print(p.pid)"
    )
    assert start_time(int(platform.lines()[0])) is None
    assert not [pid for pid in descendants(os.getpid()) if start_time(pid) is None]


def test_an_interruption_of_a_job_without_spot_is_only_noted(platform: Platform) -> None:
    platform.start("print('up'); time.sleep(1.5)")
    platform.wait_for_line("up")
    platform.jobs.interrupt("job")
    platform.jobs.wait("job", 30)
    assert platform.describe()["TrainingJobStatus"] == "Completed"
    assert "no EnableManagedSpotTraining; it goes on" in platform.warnings()


def test_max_wait_time_ends_a_spot_job(platform: Platform) -> None:
    document = platform.run(
        "while True: time.sleep(.1)",
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 2, "MaxWaitTimeInSeconds": 2},
        CreationTime=time.time() - 10,
    )
    assert (document["TrainingJobStatus"], document["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")


def test_an_output_that_cannot_be_written_fails_the_job(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    document = platform.run("", output=(tmp_path / "file").as_uri())
    assert document["TrainingJobStatus"] == "Failed"
    assert document["FailureReason"].startswith("ClientError: Artifact upload failed: ")


def test_delete_removes_what_is_kept_but_not_what_was_uploaded(platform: Platform) -> None:
    definitions = [{"Name": "m", "Regex": "m=([0-9])"}]
    platform.complete("print('m=1')", AlgorithmSpecification={"MetricDefinitions": definitions})
    platform.complete("print('m=1')", "job-2")
    platform.jobs.delete("job")
    assert not platform.home.job_dir("job").exists()
    assert not platform.streams("job")
    assert platform.streams("job-2")
    assert (platform.output_dir() / "model.tar.gz").exists()


def test_twelve_jobs_at_once_do_not_disturb_each_other(platform: Platform) -> None:
    names = [f"job-{number}" for number in range(12)]
    for name in names:
        platform.start("(base / 'model/w').write_text(os.environ['TRAINING_JOB_NAME'])", name)
    for name in names:
        platform.jobs.wait(name, 60)
        assert platform.members(name=name) == {"w": name}


def test_a_warm_pool_is_available_reused_once_and_then_over(platform: Platform) -> None:
    keep = {"ResourceConfig": {"KeepAlivePeriodInSeconds": 600}}
    first = platform.complete("", "first", **keep)
    assert first["WarmPoolStatus"] == {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 0}
    platform.complete("", "large", ResourceConfig={"KeepAlivePeriodInSeconds": 600, "InstanceType": "ml.p3.2xlarge"})
    assert platform.describe("first")["WarmPoolStatus"]["Status"] == "Available"
    platform.complete("", "second", **keep)
    status = platform.describe("first")["WarmPoolStatus"]
    assert (status["Status"], status["ReusedByJob"]) == ("Reused", "second")
    assert platform.describe("second")["WarmPoolStatus"]["Status"] == "Available"
    platform.complete("", "none")
    assert "WarmPoolStatus" not in platform.describe("none")


def test_a_warm_pool_whose_time_is_over_is_terminated(platform: Platform) -> None:
    platform.complete("", ResourceConfig={"KeepAlivePeriodInSeconds": 1})
    platform.wait_for(lambda: platform.describe()["WarmPoolStatus"]["Status"] == "Terminated", 5)
    assert platform.describe()["WarmPoolStatus"]["ResourceRetainedBillableTimeInSeconds"] == 1
