"""ProfilerConfig: system metrics of any image, sampled from outside and uploaded while the job runs."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from smdebug.profiler.system_metrics_reader import LocalSystemMetricsReader

from kennel.emulator.runners.base import SAMPLER_LABEL
from tests.emulator.jobs.conftest import Platform, both

ALWAYS_US = (0, 4_000_000_000_000_000)
BUSY = "print('up')\nwhile not (base / 'output/data/go').exists(): sum(range(100_000))\n"  # until the test lets it go
LIMIT_S = 120


def profiler(platform: Platform, **members: Any) -> dict[str, Any]:
    return {"S3OutputPath": platform.output, "ProfilingIntervalInMilliseconds": 100, **members}


def profile_of(platform: Platform) -> Path:
    return platform.folder / "output/job/profiler-output"


def samples_of(platform: Platform) -> list[Any]:
    return LocalSystemMetricsReader(str(profile_of(platform))).get_events(*ALWAYS_US)


def run_until_sampled(platform: Platform, hosts: int = 1, **members: Any) -> None:
    """Let the program go when each host has three samples, however long that takes here."""
    platform.start(BUSY, **members)
    folder = platform.home.job_dir("job") / "hosts"
    for number in range(1, hosts + 1):
        host = folder / f"algo-{number}"
        platform.wait_for(lambda host=host: sampled(host / "profile") >= 3, LIMIT_S)  # type: ignore[misc]
    for number in range(1, hosts + 1):
        (folder / f"algo-{number}/ml/output/data/go").touch()
    platform.jobs.wait("job", LIMIT_S)
    assert platform.describe()["TrainingJobStatus"] == "Completed", platform.log()


def sampled(folder: Path) -> int:
    """Samples that are written there."""
    return sum(path.read_text().count("MemoryUsedPercent") for path in (folder / "system").rglob("*.json"))


@both
def test_a_program_that_knows_nothing_of_it_is_sampled(platform: Platform) -> None:
    run_until_sampled(platform, ProfilerConfig=profiler(platform))
    samples = samples_of(platform)
    assert len({sample.timestamp for sample in samples}) >= 3
    assert {sample.node_id for sample in samples} == {"algo-1"}
    own = [s.value for s in samples if s.dimension == "ContainerCPUUtilization"]
    assert max(own) > 0  # it computes, and others leave it something
    assert max(s.value for s in samples if s.name == "MemoryUsedBytes") > 1 << 20
    assert {s.name for s in samples if s.dimension == "Algorithm"} == {
        "ReceiveBytesPerSecond",
        "TransmitBytesPerSecond",
    }


def test_every_host_has_its_own_files(platform: Platform) -> None:
    run_until_sampled(platform, 2, ProfilerConfig=profiler(platform), ResourceConfig={"InstanceCount": 2})
    names = {path.name.split(".", 1)[1] for path in (profile_of(platform) / "system/incremental").rglob("*.json")}
    assert names == {"algo-1.json", "algo-2.json"}


def test_metrics_are_uploaded_while_the_job_runs(platform: Platform) -> None:
    config = profiler(platform, ProfilingIntervalInMilliseconds=5000)
    platform.start("print('up')\nwhile not (base / 'output/data/go').exists(): time.sleep(.1)\n", ProfilerConfig=config)
    platform.wait_for(lambda: list((profile_of(platform) / "system").rglob("*.json")), LIMIT_S)
    (platform.home.job_dir("job") / "hosts/algo-1/ml/output/data/go").touch()
    platform.jobs.wait("job", LIMIT_S)
    assert platform.describe()["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize("config", [None, {"DisableProfiler": True}])
def test_without_a_profiler_nothing_is_sampled(platform: Platform, config: dict[str, Any] | None) -> None:
    members = {"ProfilerConfig": profiler(platform, **config)} if config else {}
    platform.start("print('up')\nwhile not (base / 'output/data/go').exists(): time.sleep(.1)\n", **members)
    platform.wait_for_line("up")
    time.sleep(1)
    assert platform.runner.find(SAMPLER_LABEL) == {}
    (platform.home.job_dir("job") / "hosts/algo-1/ml/output/data/go").touch()
    platform.jobs.wait("job", LIMIT_S)
    assert not profile_of(platform).exists()


def test_sampling_goes_on_when_the_emulator_is_started_anew(platform: Platform) -> None:
    platform.start(
        "print('up')\nwhile not (base / 'output/data/go').exists(): time.sleep(.1)\n", ProfilerConfig=profiler(platform)
    )
    platform.wait_for_line("up")
    before = platform.wait_for(lambda: platform.runner.find(SAMPLER_LABEL), LIMIT_S)
    platform.jobs.close()
    platform.jobs = platform.new_jobs()
    platform.jobs.recover()
    profile = platform.home.job_dir("job") / "hosts/algo-1/profile"
    seen = sampled(profile)
    platform.wait_for(lambda: sampled(profile) >= seen + 5, LIMIT_S)
    assert platform.runner.find(SAMPLER_LABEL) == before
    (platform.home.job_dir("job") / "hosts/algo-1/ml/output/data/go").touch()
    platform.jobs.wait("job", LIMIT_S)
    assert platform.runner.find(SAMPLER_LABEL) == {}
    assert len({sample.timestamp for sample in samples_of(platform)}) >= seen + 5
    assert len({(s.timestamp, s.name, s.dimension) for s in samples_of(platform)}) == len(samples_of(platform))


def test_a_file_that_a_program_is_still_writing_is_uploaded_at_the_end_only(platform: Platform) -> None:
    platform.start(
        "folder = base / 'output/profiler/framework'; folder.mkdir(parents=True)\n"
        "(folder / 'whole.json').write_text('1'); (folder / 'half.json.tmp').write_text('2'); print('saved')\n"
        "while not (base / 'output/data/go').exists(): time.sleep(.1)\n",
        ProfilerConfig=profiler(platform, ProfilingIntervalInMilliseconds=60_000),
    )
    platform.wait_for((profile_of(platform) / "framework/whole.json").exists, LIMIT_S)
    assert not (profile_of(platform) / "framework/half.json.tmp").exists()
    (platform.home.job_dir("job") / "hosts/algo-1/ml/output/data/go").touch()
    platform.jobs.wait("job", LIMIT_S)
    assert (profile_of(platform) / "framework/half.json.tmp").read_text() == "2"


def test_the_configuration_reaches_the_program(platform: Platform) -> None:
    config = profiler(platform, ProfilingParameters={"DetailedProfilingConfig": '{"StartStep": 5, "NumSteps": 1, }'})
    platform.complete("print((base / 'input/config/profilerconfig.json').read_text())", ProfilerConfig=config)
    seen = json.loads(platform.lines()[0])
    assert seen["ProfilingIntervalInMilliseconds"] == 100
    assert seen["ProfilingParameters"]["DetailedProfilingConfig"] == '{"StartStep": 5, "NumSteps": 1, }'
