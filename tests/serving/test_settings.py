"""What the environment and the machine say, given as plain values and files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kennel.contract.errors import ConfigError
from kennel.contract.paths import HOSTING_PORT, PAYLOAD_LIMIT_BYTES
from serving.cores import granted_cores
from serving.settings import Settings

pytestmark = pytest.mark.pure

MASK = len(os.sched_getaffinity(0))


def test_the_defaults_are_the_contracts_and_the_host_is_loopback():
    settings = Settings.from_environ({})
    assert (settings.host, settings.port) == ("127.0.0.1", HOSTING_PORT)
    assert settings.max_body_bytes == PAYLOAD_LIMIT_BYTES
    assert settings.model_dir == Path("/opt/ml/model")
    assert settings.workers == granted_cores().count


def test_the_platforms_variables_are_honoured():
    settings = Settings.from_environ(
        {
            "SAGEMAKER_BIND_TO_PORT": "9000",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "3",
            "SAGEMAKER_BASE_DIR": "/elsewhere",
            "KENNEL_HOST": "0.0.0.0",
            "KENNEL_QUEUE_SIZE": "0",
        }
    )
    assert (settings.host, settings.port, settings.model_dir) == ("0.0.0.0", 9000, Path("/elsewhere/model"))
    assert (settings.workers, settings.workers_reason) == (3, "SAGEMAKER_MODEL_SERVER_WORKERS")
    assert settings.queue_size == 0


def test_arguments_go_before_the_environment():
    environ = {"SAGEMAKER_BIND_TO_PORT": "9000", "KENNEL_HOST": "0.0.0.0"}
    settings = Settings.from_environ(environ, host="127.0.0.1", port=0, model_dir=Path("m"))
    assert (settings.host, settings.port, settings.model_dir) == ("127.0.0.1", 0, Path("m"))


def test_all_wrong_values_are_named_at_once():
    environ = {
        "SAGEMAKER_BIND_TO_PORT": "http",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "0",
        "KENNEL_QUEUE_SIZE": "-1",
        "KENNEL_MAX_BODY_BYTES": "6MB",
        "KENNEL_BODY_TIMEOUT_S": "9" * 50,
    }
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ(environ, port=70000)
    assert [problem.split()[0] for problem in caught.value.problems] == [*environ, "--port"]
    assert "'6MB'" in str(caught.value)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_quota_the_affinity_mask_counts(tmp_path):
    write(tmp_path / "proc/self/cgroup", "0::/user.slice\n")
    write(tmp_path / "sys/fs/cgroup/user.slice/cpu.max", "max 100000\n")
    assert granted_cores(tmp_path).count == MASK


@pytest.mark.parametrize(("quota", "cores"), [(100_000, 1), (50_000, 1), (99_000 * 1000, MASK)])
def test_a_version_2_quota_lowers_the_count_to_whole_cores_but_at_least_one(tmp_path, quota, cores):
    write(tmp_path / "proc/self/cgroup", "0::/\n")
    write(tmp_path / "sys/fs/cgroup/cpu.max", f"{quota} 100000\n")
    assert granted_cores(tmp_path).count == cores
    assert f"{quota / 100_000:g}" in granted_cores(tmp_path).reason


def test_the_smallest_quota_on_the_way_to_the_root_counts(tmp_path):
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path / "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    write(tmp_path / "sys/fs/cgroup/a/cpu.max", "100000 100000\n")
    assert granted_cores(tmp_path).count == 1


def test_a_version_1_quota_is_found_although_the_container_names_the_hosts_path(tmp_path):
    write(
        tmp_path / "proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
    )
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert granted_cores(tmp_path).count == 1
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert granted_cores(tmp_path).count == MASK


def test_a_system_without_cgroups_has_the_mask_alone(tmp_path):
    assert granted_cores(tmp_path).count == MASK
