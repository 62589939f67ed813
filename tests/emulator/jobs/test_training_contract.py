"""Clause by clause what SageMaker promises a training container (developer guide and API reference)."""

from __future__ import annotations

import inspect
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kennel.emulator.training.job import STOP_GRACE_S
from kennel.emulator.training.jobs import TrainingJobs
from tests.emulator.jobs.conftest import IMAGE, REGION, Platform, both, channel

pytestmark = both
SHOW_CONFIG = "print(json.dumps({p.name: json.loads(p.read_text()) for p in (base / 'input/config').iterdir()}))"


def config(platform: Platform, **members: Any) -> dict[str, Any]:
    platform.complete(SHOW_CONFIG, **members)
    [line] = platform.lines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_image_is_started_with_the_argument_train(platform: Platform) -> None:
    platform.complete("print(sys.argv[1:])")
    assert platform.lines() == ["['train']"]


def test_a_container_is_root_and_its_program_the_first_process(platform: Platform) -> None:
    platform.complete("print(os.getuid(), os.getpid())")
    expected = "0 1" if platform.runner.name == "docker" else f"{os.getuid()} "  # a process is the caller's own
    assert platform.lines()[0].startswith(expected)


def test_container_entrypoint_and_arguments_override_those_of_the_image(platform: Platform) -> None:
    algorithm = {"ContainerEntrypoint": ["python3", "-c", "import sys; print('mine', sys.argv[1:])"]}
    platform.complete("", name="a", AlgorithmSpecification=algorithm)
    assert platform.lines("a") == ["mine []"]
    platform.complete("", name="b", AlgorithmSpecification=algorithm | {"ContainerArguments": ["x", "y z"]})
    assert platform.lines("b") == ["mine ['x', 'y z']"]
    platform.complete("print(sys.argv[1:])", name="c", AlgorithmSpecification={"ContainerArguments": ["only"]})
    assert platform.lines("c") == ["['only']"]


def test_hyperparameters_are_strings(platform: Platform) -> None:
    files = config(platform, HyperParameters={"epochs": "3", "list": "[1, 2]", "name": "Zoë"})
    assert files["hyperparameters.json"].items() >= {"epochs": "3", "list": "[1, 2]", "name": "Zoë"}.items()


def test_inputdataconfig_says_how_each_channel_comes(platform: Platform, tmp_path: Path) -> None:
    uri = make_files(tmp_path / "data", "a").as_uri()
    channels = [channel("train", uri, ContentType="image/jpeg"), channel("test", uri, InputMode="FastFile")]
    assert config(platform, InputDataConfig=channels)["inputdataconfig.json"] == {
        "train": {
            "ContentType": "image/jpeg",
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        },
        "test": {
            "TrainingInputMode": "FastFile",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        },
    }


def test_resourceconfig_names_the_host_and_its_interface_exists(platform: Platform) -> None:
    resources = config(platform)["resourceconfig.json"]
    interface = resources.pop("network_interface_name")
    assert interface == ("lo" if platform.runner.name == "process" else "eth0")
    assert resources == {
        "current_host": "algo-1",
        "current_instance_type": "ml.m5.large",
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"],
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": ["algo-1"]}
        ],
    }


def test_other_config_files_are_there_when_the_request_has_them(platform: Platform, tmp_path: Path) -> None:
    uri = (tmp_path / "out").as_uri()
    files = config(
        platform,
        CheckpointConfig={"S3Uri": uri},
        DebugHookConfig={"S3OutputPath": uri, "HookParameters": {"save_interval": "10"}},
        TensorBoardOutputConfig={"S3OutputPath": uri},
        ProfilerConfig={"S3OutputPath": uri, "ProfilingParameters": {"DetailedProfilingConfig": "{}"}},
    )
    base = "/opt/ml" if platform.runner.name == "docker" else str(platform.home.job_dir("job") / "hosts/algo-1/ml")
    assert files["checkpointconfig.json"] == {"S3Uri": uri, "LocalPath": f"{base}/checkpoints"}
    assert files["debughookconfig.json"] == {
        "S3OutputPath": uri,
        "HookParameters": {"save_interval": "10"},
        "LocalPath": f"{base}/output/tensors",
    }
    assert files["tensorboardoutputconfig.json"]["LocalPath"] == f"{base}/output/tensorboard"
    assert files["profilerconfig.json"]["ProfilingParameters"] == {
        "LocalPath": f"{base}/output/profiler",
        "DetailedProfilingConfig": "{}",
    }


def test_no_other_config_file_is_there_otherwise(platform: Platform) -> None:
    assert set(config(platform)) == {"hyperparameters.json", "inputdataconfig.json", "resourceconfig.json"}


def test_the_environment_has_the_job_the_region_and_what_the_user_asked_for(platform: Platform) -> None:
    names = ["TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "AWS_REGION", "MINE", "LINES"]
    program = f"print(json.dumps([os.environ.get(name) for name in {names}]))"
    environment = {"MINE": "a b=c", "LINES": "1\n2", "TRAINING_JOB_NAME": "lie"}
    platform.complete(program, Environment=environment)
    arn = f"arn:aws:sagemaker:{REGION}:000000000000:training-job/job"
    assert json.loads(platform.lines()[0]) == ["job", arn, REGION, "a b=c", "1\n2"]


def test_what_the_toolkit_sets_the_platform_does_not(platform: Platform) -> None:
    program = (
        "print(sorted(n for n in os.environ if n.startswith(('SM_', 'SAGEMAKER_')) and n != 'SAGEMAKER_BASE_DIR'))"
    )
    platform.complete(program)
    assert platform.lines() == ["[]"]


def test_the_users_aws_keys_do_not_reach_the_program(platform: Platform) -> None:
    platform.complete("print([name for name in os.environ if name.startswith('AWS_') and 'REGION' not in name])")
    assert platform.lines() == ["[]"]


def make_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text of {name}")
    return folder


LIST = "print(sorted(str(p.relative_to(base / 'input/data')) for p in (base / 'input/data').rglob('*') if p.is_file()))"
WALK = (
    "print(sorted(os.path.relpath(os.path.join(f, n), base / 'input/data') "
    "for f, _, ns in os.walk(base / 'input/data', followlinks=True) for n in ns))"
)


def test_a_folder_is_mounted_without_a_copy(platform: Platform, tmp_path: Path) -> None:
    data = make_files(tmp_path / "my, data", "cats/1.jpg", "dogs/2.jpg")
    platform.complete(
        f"{WALK}; p = base / 'input/data/train/cats/1.jpg'; print(p.read_text(), p.stat().st_ino)",
        InputDataConfig=[channel("train", data.as_uri())],
    )
    listing, file = platform.lines()
    assert listing == "['train/cats/1.jpg', 'train/dogs/2.jpg']"
    assert file == f"text of cats/1.jpg {(data / 'cats/1.jpg').stat().st_ino}"


def test_a_single_file_is_the_channels_only_one(platform: Platform, tmp_path: Path) -> None:
    data = make_files(tmp_path / "data", "weights.pt", "other")
    platform.complete(WALK, InputDataConfig=[channel("pretrained", (data / "weights.pt").as_uri())])
    assert platform.lines() == ["['pretrained/weights.pt']"]


def test_shards_by_key_part_the_files_among_the_hosts(platform: Platform, tmp_path: Path) -> None:
    data = make_files(tmp_path / "data", *[f"class/{n}" for n in range(5)])
    sharded = {"S3DataDistributionType": "ShardedByS3Key"}
    channels = [channel("part", data.as_uri(), source=sharded), channel("all", data.as_uri())]
    platform.complete(
        "print(sorted(p.name for p in (base / 'input/data/part/class').iterdir()), "
        "len(list((base / 'input/data/all/class').iterdir())))",
        InputDataConfig=channels,
        ResourceConfig={"InstanceCount": 2},
    )
    assert platform.lines(host="algo-1") == ["['0', '2', '4'] 5"]
    assert platform.lines(host="algo-2") == ["['1', '3'] 5"]


def test_a_manifest_lists_the_files(platform: Platform, tmp_path: Path) -> None:
    data = make_files(tmp_path / "data", "a/1.jpg", "a/2.jpg", "b/3.jpg")
    manifest = data / "list.manifest"
    manifest.write_text(json.dumps([{"prefix": data.as_uri() + "/"}, "a/1.jpg", "b/3.jpg"]))
    platform.complete(LIST, InputDataConfig=[channel("c", manifest.as_uri(), source={"S3DataType": "ManifestFile"})])
    assert platform.lines() == ["['c/a/1.jpg', 'c/b/3.jpg']"]


def test_a_manifest_may_name_folders_whose_files_keep_their_names(platform: Platform, tmp_path: Path) -> None:
    data = make_files(tmp_path / "data", "cats/1.jpg", "cats/deep/2.jpg", "dogs/1.jpg", "dogs.txt")
    manifest = data / "list.manifest"
    manifest.write_text(json.dumps([{"prefix": data.as_uri() + "/"}, "cats/", "dogs"]))
    platform.complete(LIST, InputDataConfig=[channel("c", manifest.as_uri(), source={"S3DataType": "ManifestFile"})])
    assert platform.lines() == ["['c/cats/1.jpg', 'c/cats/deep/2.jpg', 'c/dogs/1.jpg']"]


def test_two_hosts_find_each_other_by_name(platform: Platform) -> None:
    program = (
        "import socket; me = json.loads((base / 'input/config/resourceconfig.json').read_text())\n"
        "assert me['hosts'] == ['algo-1', 'algo-2'], me\n"
        "if me['current_host'] == 'algo-1':\n"
        "    s = socket.create_server(('algo-1', 5000)); c, _ = s.accept(); print('heard', c.recv(9).decode())\n"
        "else:\n"
        "    for _ in range(200):\n"
        "        try: socket.create_connection(('algo-1', 5000)).sendall(b'hello'); break\n"
        "        except OSError: time.sleep(.1)\n"
        "    print('sent', len({socket.gethostbyname(h) for h in me['hosts']}))\n"
    )
    platform.complete(program, ResourceConfig={"InstanceCount": 2})
    assert platform.lines(host="algo-1") == ["heard hello"]
    assert platform.lines(host="algo-2") == ["sent 2"]
    assert len(platform.streams()) == 2


def test_instance_groups_are_hosts_and_channels_can_be_for_one_group(platform: Platform, tmp_path: Path) -> None:
    data = make_files(tmp_path / "data", "x")
    groups = [
        {"InstanceGroupName": "cpu", "InstanceType": "ml.c5.large", "InstanceCount": 1},
        {"InstanceGroupName": "gpu", "InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
    ]
    platform.complete(
        "r = json.loads((base / 'input/config/resourceconfig.json').read_text())\n"
        "print(r['current_group_name'], r['current_instance_type'], len(r['instance_groups']), "
        "(base / 'input/data/c').exists())",
        ResourceConfig={"InstanceGroups": groups},
        InputDataConfig=[channel("c", data.as_uri(), source={"InstanceGroupNames": ["gpu"]})],
    )
    assert platform.lines(host="algo-1") == ["cpu ml.c5.large 2 False"]
    assert platform.lines(host="algo-2") == ["gpu ml.g5.xlarge 2 True"]


def test_an_isolated_job_reaches_nothing_and_its_own_name_resolves(platform: Platform) -> None:
    program = (
        "import socket\n"
        "print(socket.gethostbyname('algo-1').startswith('127.'))\n"
        "print(sorted(name for _, name in socket.if_nameindex()))\n"
        "try: socket.create_connection(('198.51.100.1', 9), 5)\n"
        "except OSError as e: print(e.errno)\n"
    )
    platform.complete(program, EnableNetworkIsolation=True)
    assert platform.lines() == ["True", "['lo']", "101"]  # ENETUNREACH


def test_model_and_output_become_archives(platform: Platform) -> None:
    program = (
        "(base / 'model/code').mkdir(); (base / 'model/w.bin').write_text('W')\n"
        "(base / 'model/code/i.py').write_text('I')\n"
        "(base / 'output/data/plot.txt').write_text('P'); os.symlink('/etc/passwd', base / 'model/link')\n"
    )
    document = platform.complete(program)
    assert platform.members() == {"w.bin": "W", "code/i.py": "I"}
    assert platform.members("output.tar.gz") == {"plot.txt": "P"}
    assert document["ModelArtifacts"]["S3ModelArtifacts"] == f"{platform.output}/job/output/model.tar.gz"


def test_without_compression_the_files_lie_in_folders(platform: Platform) -> None:
    program = "(base / 'model/a').write_text('A'); (base / 'output/data/b').write_text('B')"
    document = platform.complete(program, OutputDataConfig={"CompressionType": "NONE"})
    place = platform.output_dir()
    assert document["ModelArtifacts"]["S3ModelArtifacts"] == f"{platform.output}/job/output/model/"
    assert {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()} == {"model/a", "data/b"}


def test_the_folders_of_all_hosts_become_one(platform: Platform) -> None:
    program = (
        "h = json.loads((base / 'input/config/resourceconfig.json').read_text())['current_host']\n"
        "(base / 'model/both').write_text(h); (base / 'model' / h).write_text(h)\n"
    )
    platform.complete(program, ResourceConfig={"InstanceCount": 2})
    assert platform.members() == {"both": "algo-1", "algo-1": "algo-1", "algo-2": "algo-2"}


def test_exit_0_is_completed_with_all_statuses_and_times(platform: Platform) -> None:
    document = platform.complete("time.sleep(1.2)")
    assert platform.statuses() == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    transitions = document["SecondaryStatusTransitions"]
    assert all(a["EndTime"] == b["StartTime"] for a, b in itertools.pairwise(transitions))
    assert all(one["StatusMessage"] for one in transitions)
    assert document["CreationTime"] <= document["TrainingStartTime"] < document["TrainingEndTime"]
    assert document["TrainingTimeInSeconds"] == document["BillableTimeInSeconds"] >= 1
    assert document["LastModifiedTime"] >= document["TrainingEndTime"]
    assert not [*platform.runner.find("kennel.job")]
    assert not (platform.home.job_dir("job") / "hosts").exists()


def test_the_failure_file_is_the_reason_with_the_exit_code(platform: Platform) -> None:
    program = "(base / 'output/failure').write_text('x' * 2000); (base / 'output/data/o').write_text('O'); sys.exit(7)"
    document = platform.run(program)
    assert document["TrainingJobStatus"] == document["SecondaryStatus"] == "Failed"
    reason = document["FailureReason"]
    assert reason.startswith("AlgorithmError: xxxx")
    assert reason.endswith("x, exit code: 7")
    assert len(reason) == 1024
    assert platform.members("output.tar.gz") == {"o": "O"}
    assert not (platform.output_dir() / "model.tar.gz").exists()


def test_without_a_failure_file_the_last_line_helps(platform: Platform) -> None:
    document = platform.run("print('half way', file=sys.stderr); raise ValueError('broken')")
    assert document["FailureReason"] == (
        "AlgorithmError: the program wrote no failure file; the last line of its log: ValueError: broken, exit code: 1"
    )


def test_a_program_that_dies_of_a_signal_has_128_and_its_number(platform: Platform) -> None:
    document = platform.run(
        "import subprocess; p = subprocess.run(['sh', '-c', 'kill -9 $$']); os._exit(128 - p.returncode)"
    )
    assert document["FailureReason"].endswith("exit code: 137")


def test_one_host_that_fails_ends_the_others(platform: Platform) -> None:
    program = (
        "h = json.loads((base / 'input/config/resourceconfig.json').read_text())['current_host']\n"
        "if h == 'algo-2': (base / 'output/failure').write_text('out of luck'); sys.exit(3)\n"
        "time.sleep(600)\n"
    )
    document = platform.run(program, ResourceConfig={"InstanceCount": 2})
    assert document["FailureReason"] == "AlgorithmError: out of luck, exit code: 3"


SAVES_AT_SIGTERM = (
    "def stop(*_): (base / 'model/w').write_text('saved'); print('stopped'); sys.exit(5)\n"
    "signal.signal(signal.SIGTERM, stop); print('ready')\n"
    "while True: time.sleep(.05)\n"
)


def test_stop_sends_sigterm_and_keeps_the_artifacts(platform: Platform) -> None:
    platform.start(SAVES_AT_SIGTERM)
    platform.wait_for_line("ready")
    platform.stop()
    platform.jobs.wait("job", 30)
    document = platform.describe()
    assert document["TrainingJobStatus"] == document["SecondaryStatus"] == "Stopped"
    assert platform.statuses() == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"]
    assert platform.members() == {"w": "saved"}
    assert document["ModelArtifacts"]["S3ModelArtifacts"].endswith("model.tar.gz")
    assert "FailureReason" not in document
    assert platform.lines() == ["ready", "stopped"]


def test_what_does_not_listen_to_sigterm_is_killed_after_the_grace(platform: Platform) -> None:
    platform.start("signal.signal(signal.SIGTERM, lambda *_: print('heard')); print('ready')\nwhile 1: time.sleep(.1)")
    platform.wait_for_line("ready")
    platform.stop()
    platform.jobs.wait("job", 30)
    assert platform.describe()["TrainingJobStatus"] == "Stopped"
    assert platform.lines() == ["ready", "heard"]
    stopping = platform.describe()["SecondaryStatusTransitions"][3]
    assert platform.grace_s <= stopping["EndTime"] - stopping["StartTime"] < platform.grace_s + 5


def test_the_grace_is_two_minutes_unless_a_test_says_less(platform: Platform) -> None:
    assert STOP_GRACE_S == 120
    parameter = inspect.signature(TrainingJobs).parameters["stop_grace_s"]
    assert parameter.default == STOP_GRACE_S
    assert platform.grace_s == 3  # of the tests above


def test_max_runtime_stops_the_job(platform: Platform) -> None:
    document = platform.run(SAVES_AT_SIGTERM, StoppingCondition={"MaxRuntimeInSeconds": 2})
    assert (document["TrainingJobStatus"], document["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert platform.statuses()[-3:] == ["Stopping", "Uploading", "MaxRuntimeExceeded"]
    assert platform.members() == {"w": "saved"}


def test_checkpoints_of_this_machine_are_shared_both_ways(platform: Platform, tmp_path: Path) -> None:
    place = make_files(tmp_path / "checkpoints", "old", "older")
    platform.complete(
        "c = base / 'checkpoints'; print(sorted(p.name for p in c.iterdir())); (c / 'new').write_text('N')\n"
        "(c / 'older').unlink()",
        CheckpointConfig={"S3Uri": place.as_uri()},
    )
    assert platform.lines() == ["['old', 'older']"]
    assert sorted(path.name for path in place.iterdir()) == ["new", "old"]


def test_metrics_are_read_from_the_log(platform: Platform) -> None:
    definitions = [
        {"Name": "loss", "Regex": r"loss=([-+0-9.e]+|nan)"},
        {"Name": "accuracy", "Regex": r"accuracy=(\S+)"},
        {"Name": "rate", "Regex": "rate=([0-9]+)"},
        {"Name": "never", "Regex": "never=(.*)"},
    ]
    program = (
        "print('loss=0.5 accuracy=0.1'); print('loss=nan'); print('loss=2.5e-1 accuracy=x'); print('accuracy=0.75'); "
        "print('rate=3', file=sys.stderr)"  # docker keeps the order of one stream, not that of two
    )
    document = platform.complete(program, AlgorithmSpecification={"MetricDefinitions": definitions})
    final = {one["MetricName"]: one["Value"] for one in document["FinalMetricDataList"]}
    assert final == {"loss": 0.25, "accuracy": 0.75, "rate": 3}
    series = [json.loads(line) for line in platform.home.metrics_file("job").read_text().splitlines()]
    assert sorted((one["name"], one["value"]) for one in series) == [
        ("accuracy", 0.1), ("accuracy", 0.75), ("loss", 0.25), ("loss", 0.5), ("rate", 3),
    ]  # fmt: skip
    assert all(document["TrainingStartTime"] <= one["timestamp"] <= document["TrainingEndTime"] for one in series)


def test_what_each_host_uses_of_the_machine_is_measured(platform: Platform) -> None:
    platform.start(
        "ballast = bytearray(64 << 20)\nwhile not (base / 'output/data/go').exists(): sum(range(10_000))\n",
        ResourceConfig={"InstanceCount": 2},
    )
    file = platform.home.host_metrics_file("job")
    platform.wait_for(file.exists)
    for host in ("algo-1", "algo-2"):
        (platform.home.job_dir("job") / f"hosts/{host}/ml/output/data/go").touch()
    platform.jobs.wait("job", 30)
    found = {(one["host"], one["name"]): one["value"] for one in map(json.loads, file.read_text().splitlines())}
    names = ("CPUUtilization", "DiskUtilization", "MemoryUtilization")
    assert sorted(found) == [(host, name) for host in ("algo-1", "algo-2") for name in names]
    for host in ("algo-1", "algo-2"):
        assert 0 < found[host, "CPUUtilization"] <= 101 * (os.cpu_count() or 1)
        assert 0 < found[host, "MemoryUtilization"] < 100
        assert 0 < found[host, "DiskUtilization"] < 100


def test_the_log_has_every_line_of_both_streams_with_its_time(platform: Platform) -> None:
    platform.complete("print('a'); print('é', file=sys.stderr); print(); print('x' * 5000); print('end', end='')")
    assert sorted(platform.lines()) == sorted(["a", "é", "", "x" * 5000, "end"])
    [stream] = platform.streams()
    assert stream.rpartition("-")[0] == "job/algo-1"
    assert int(stream.rpartition("-")[2]) >= int(platform.describe()["CreationTime"])


def test_a_spot_interruption_starts_again_from_the_checkpoint(platform: Platform, tmp_path: Path) -> None:
    program = (
        "c = base / 'checkpoints/step'\n"
        "if c.exists(): print('resumed at', c.read_text()); (base / 'model/w').write_text('W'); sys.exit(0)\n"
        "c.write_text('41'); (base / 'model/half').write_text('half'); print('saved')\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        "while True: time.sleep(.05)\n"
    )
    platform.start(
        program,
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxWaitTimeInSeconds": 90_000},
        CheckpointConfig={"S3Uri": (tmp_path / "checkpoints").as_uri()},
    )
    platform.wait_for_line("saved")
    platform.jobs.interrupt("job")
    platform.jobs.wait("job", 30)
    assert platform.describe()["TrainingJobStatus"] == "Completed", platform.describe()
    once = ["Starting", "Downloading", "Training"]
    assert platform.statuses() == [*once, "Interrupted", *once, "Uploading", "Completed"]
    assert "resumed at 41" in platform.log()
    assert platform.members() == {"w": "W"}  # the second machine began with empty folders


def test_a_job_whose_image_cannot_be_started_fails_with_the_reason(platform: Platform) -> None:
    algorithm = {"TrainingImage": "nowhere.invalid/none:1"}
    document = platform.run("", AlgorithmSpecification=algorithm)
    assert document["TrainingJobStatus"] == "Failed"
    assert document["FailureReason"].startswith("ClientError: ")
    assert "nowhere.invalid/none" in document["FailureReason"]


def test_what_the_job_left_belongs_to_the_caller(platform: Platform) -> None:
    platform.complete("p = base / 'model/secret'; p.write_text('S'); p.chmod(0o600)")
    assert platform.members() == {"secret": "S"}


@pytest.mark.parametrize("name", ["job", "a-b"])
def test_shared_memory_is_large(platform: Platform, name: str) -> None:
    platform.complete("print(os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize)", name=name)
    assert int(platform.lines(name)[0]) >= 1 << 30


def test_the_image_name_is_what_the_request_says(platform: Platform) -> None:
    assert platform.insert("")["AlgorithmSpecification"]["TrainingImage"] == IMAGE
