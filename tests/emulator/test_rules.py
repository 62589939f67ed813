"""DebugRuleConfigurations and ProfilerRuleConfigurations as customers of SageMaker Debugger send them."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.emulator.emulator_harness import Emulator, job_request, running, wait_for, wait_for_status
from tests.servers import moto_server

AWS_RULES = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"
AWS_CUSTOM = "895741380848.dkr.ecr.us-west-2.amazonaws.com/sagemaker-debugger-rule-evaluator:latest"
FINAL = ("NoIssuesFound", "IssuesFound", "Error", "Stopped")
CUSTOM = """
from smdebug.rules.rule import Rule

class Positive(Rule):
    def __init__(self, base_trial, limit=0):
        super().__init__(base_trial)
        self.limit = limit

    def invoke_at_step(self, step):
        return any(self.base_trial.tensor(name).value(step).mean() > self.limit
                   for name in self.base_trial.tensor_names(step=step, collection="losses"))
"""


def home_of(folder: Path) -> Path:
    home = folder / "home"
    home.mkdir()
    program = [sys.executable, "-u", str(Path(__file__).with_name("hooked.py"))]
    (home / "images.json").write_text(json.dumps({"tiny": program}))
    return home


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(home_of(tmp_path)) as server:
        yield server


def rule(name: str, *, image: str = AWS_RULES, invoke: str = "", **parameters: str) -> dict[str, Any]:
    """A rule as sagemaker-python-sdk sends it."""
    given = {"rule_to_invoke": invoke or name, **parameters}
    return {"RuleConfigurationName": name, "RuleEvaluatorImage": image, "RuleParameters": given}


def hooked(name: str, folder: Path, rules: list[dict[str, Any]], output: str = "", **hyperparameters: str) -> Any:
    request = job_request(name, folder, DebugRuleConfigurations=rules, HyperParameters=hyperparameters)
    collections = {"gradients": {}, "weights": {}, "losses": {}, "relu_output": {"include_regex": ".*relu_output"}}
    request["DebugHookConfig"] = {
        "S3OutputPath": output or (folder / "debug").as_uri(),
        "CollectionConfigurations": [
            {"CollectionName": collection, "CollectionParameters": {"save_interval": "5", **parameters}}
            for collection, parameters in collections.items()
        ],
    }
    if output:
        request["OutputDataConfig"]["S3OutputPath"] = output
    return request


def judged(emulator: Emulator, job: str, member: str = "DebugRuleEvaluationStatuses") -> dict[str, dict[str, Any]]:
    """The statuses of a job's rules by name, once all of them are final."""
    client = emulator.client("sagemaker")

    def final() -> Any:
        rows = client.describe_training_job(TrainingJobName=job).get(member, [])
        return rows if rows and all(row["RuleEvaluationStatus"] in FINAL for row in rows) else None

    return {row["RuleConfigurationName"]: row for row in wait_for(final, 150)}


def test_a_debugger_customers_request_is_judged_and_described(emulator: Emulator, tmp_path: Path) -> None:
    custom = tmp_path / "custom.py"
    custom.write_text(CUSTOM)
    rules = [
        rule("VanishingGradient"),
        rule("ExplodingTensor") | {"InstanceType": "ml.m5.large", "VolumeSizeInGB": 10, "LocalPath": "/opt/ml/rule"},
        rule("Mine", image=AWS_CUSTOM, invoke="Positive", source_s3_uri=custom.as_uri(), limit="0"),
        rule("Typo", invoke="DeadRelu", treshold_layer="3"),
        rule("Unknown", invoke="TreeDepth"),
        rule("Foreign", image="example.com/my-evaluator:1"),
    ]
    client = emulator.client("sagemaker")
    client.create_training_job(**hooked("ants", tmp_path, rules, training="dead_relu"))
    assert wait_for_status(client, "ants", "Completed", "Failed", "Stopped")["TrainingJobStatus"] == "Completed"
    rows = judged(emulator, "ants")
    status = {name: row["RuleEvaluationStatus"] for name, row in rows.items()}
    assert status == {
        "VanishingGradient": "IssuesFound", "ExplodingTensor": "NoIssuesFound", "Mine": "IssuesFound",
        "Typo": "Error", "Unknown": "Error", "Foreign": "Error",
    }  # fmt: skip
    details = {name: row.get("StatusDetails", "") for name, row in rows.items()}
    met = "Evaluation of the rule VanishingGradient at step 0 resulted in the condition being met"
    assert details["VanishingGradient"].startswith(f"RuleEvaluationConditionMet: {met}")
    assert "did you mean 'threshold_layer'?" in details["Typo"]
    assert "There is no rule 'TreeDepth'" in details["Unknown"]
    assert "source_s3_uri" in details["Foreign"]
    for row in rows.values():
        assert re.fullmatch(r"arn:aws:sagemaker:[a-z0-9-]+:\d{12}:processing-job/[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
                            row["RuleEvaluationJobArn"])  # fmt: skip
        assert row["LastModifiedTime"].timestamp() > 0
    output = tmp_path / "output/ants/rule-output/VanishingGradient/findings.json"
    assert json.loads(output.read_text())["findings"][0]["tensor"].startswith("gradient/")
    job = rows["Mine"]["RuleEvaluationJobArn"].rpartition("/")[2]
    [stream] = emulator.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/ProcessingJobs", logStreamNamePrefix=f"{job}/"
    )["logStreams"]  # fmt: skip
    assert stream["logStreamName"].endswith(tuple("0123456789"))


def test_a_rule_stops_the_training_and_everything_lies_in_s3(tmp_path: Path) -> None:
    with moto_server(tmp_path) as url:
        key = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        with running(home_of(tmp_path), variables={"AWS_ENDPOINT_URL_S3": url, **key}) as emulator:
            s3 = boto3.client(
                "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"  # noqa: S106
            )  # fmt: skip
            s3.create_bucket(Bucket="dogs")
            action = r"[{\"name\": \"stoptraining\", \"training_job_prefix\": \"wasps\"}, {\"name\": \"email\", \"endpoint\": \"a@example.com\"}]"  # noqa: E501 - as the SDK writes it
            rules = [rule("UnchangedTensor", tensor_regex="weight$", action_json=action), rule("StalledTrainingRule")]
            client = emulator.client("sagemaker")
            request = hooked("wasps", tmp_path, rules, "s3://dogs/out", training="no_updates", sleep_s="240")
            client.create_training_job(**request)
            stopped = wait_for_status(client, "wasps", "Completed", "Failed", "Stopped")
            assert stopped["TrainingJobStatus"] == "Stopped"
            status = {name: row["RuleEvaluationStatus"] for name, row in judged(emulator, "wasps").items()}
            assert status == {"UnchangedTensor": "IssuesFound", "StalledTrainingRule": "Stopped"}
            place = "out/wasps/rule-output/UnchangedTensor/findings.json"
            body = s3.get_object(Bucket="dogs", Key=place)["Body"].read()
            assert json.loads(body)["findings"][0]["rule"] == "UnchangedTensor"
            warnings = emulator.home / "logs/kennel/warnings/training-job%2Fwasps"
            assert "no email is sent from here" in warnings.read_text()


def test_rules_outlive_a_kill_of_the_server(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    with running(home) as first:
        rules = [rule("VanishingGradient"), rule("ExplodingTensor")]
        first.client("sagemaker").create_training_job(
            **hooked("bees", tmp_path, rules, training="dead_relu", sleep_s="8")
        )
        wait_for(lambda: list(home.glob("jobs/bees/rules/*/output/findings.json")), 100)
        first.stop(signal.SIGKILL)
    with running(home) as second:
        status = {name: row["RuleEvaluationStatus"] for name, row in judged(second, "bees").items()}
        assert status == {"VanishingGradient": "IssuesFound", "ExplodingTensor": "NoIssuesFound"}
        described = second.client("sagemaker").describe_training_job(TrainingJobName="bees")
        assert described["TrainingJobStatus"] == "Completed"
        second.client("sagemaker").delete_training_job(TrainingJobName="bees")
        assert not (home / "jobs/bees").exists()


def test_profiler_rules_are_judged_at_the_end_and_leave_a_report(emulator: Emulator, tmp_path: Path) -> None:
    rules = [rule("ProfilerReport-1700000000", invoke="ProfilerReport", CPUBottleneck_threshold="80"),
             rule("MaxInitializationTime", threshold="20"), rule("NoSuchRule")]  # fmt: skip
    request = hooked("flies", tmp_path, [], training="sound")
    del request["DebugRuleConfigurations"]
    request["ProfilerConfig"] = {
        "S3OutputPath": (tmp_path / "profile").as_uri(),
        "ProfilingIntervalInMilliseconds": 500,
    }
    request["ProfilerRuleConfigurations"] = rules
    emulator.client("sagemaker").create_training_job(**request)
    rows = judged(emulator, "flies", "ProfilerRuleEvaluationStatuses")  # with its last status each has its output
    assert rows["ProfilerReport-1700000000"]["RuleEvaluationStatus"] in ("NoIssuesFound", "IssuesFound"), rows
    assert rows["MaxInitializationTime"]["RuleEvaluationStatus"] == "NoIssuesFound"
    assert rows["NoSuchRule"]["RuleEvaluationStatus"] == "Error"
    report = tmp_path / "output/flies/rule-output/ProfilerReport-1700000000/profiler-output"
    assert (report / "profiler-report.html").stat().st_size > 10_000
    assert list((report / "profiler-report").glob("*.json"))


def test_a_request_without_tensors_or_with_a_name_twice(emulator: Emulator, tmp_path: Path) -> None:
    client = emulator.client("sagemaker")
    request = job_request("none", tmp_path, DebugRuleConfigurations=[rule("DeadRelu")])
    request["HyperParameters"] = {"training": "nothing"}
    client.create_training_job(**request)
    row = judged(emulator, "none")["DeadRelu"]
    assert row["RuleEvaluationStatus"] == "Error"
    assert "no DebugHookConfig.S3OutputPath" in row["StatusDetails"]
    with pytest.raises(client.exceptions.ClientError, match="has the RuleConfigurationName 'DeadRelu' twice"):
        client.create_training_job(**hooked("twice", tmp_path, [rule("DeadRelu")] * 2, training="sound"))
