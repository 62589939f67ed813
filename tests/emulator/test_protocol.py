import json
from typing import Any

import pytest
from botocore.model import Shape

from kennel.emulator.errors import AwsError, ModelError, ValidationException
from kennel.emulator.operations import OPERATIONS
from kennel.emulator.service_model.coverage_tables import TABLES
from kennel.emulator.service_model.protocol import (
    error_body,
    operation_model,
    read_json,
    service_model,
    shaped,
    validate,
)
from kennel.emulator.service_model.validation import compile_pattern, problems_of

pytestmark = pytest.mark.pure

JOB: dict[str, Any] = {
    "TrainingJobName": "job",
    "RoleArn": "arn:aws:iam::000000000000:role/kennel",
    "AlgorithmSpecification": {"TrainingImage": "kennel-train", "TrainingInputMode": "File"},
    "InputDataConfig": [
        {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/train"}}}
    ],
    "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The job with one member set, or removed when the value is None."""
    request = json.loads(json.dumps(JOB))
    *parents, last = path.split(".")
    place = request
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return request


def refusal(request: dict[str, Any], operation: str = "CreateTrainingJob") -> str:
    with pytest.raises(ValidationException) as caught:
        validate(operation_model("sagemaker", operation), request)
    return caught.value.message


def test_a_right_request_passes() -> None:
    validate(operation_model("sagemaker", "CreateTrainingJob"), JOB)


WRONG = [
    ("TrainingJobName", None, "Value null at 'TrainingJobName' failed to satisfy constraint: Member must not be null"),
    ("TrainingJobName", 5, "Value '5' at 'TrainingJobName' failed to satisfy constraint: Member must be of type str"),
    ("TrainingJobName", "a" * 64, "Member must have length less than or equal to 63"),
    ("TrainingJobName", "", "Member must have length greater than or equal to 1"),
    ("TrainingJobName", "a_b", "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"),
    ("TrainingJobName", "job\n", "Member must satisfy regular expression pattern"),
    ("Enviroment", {"A": "b"}, "Unknown member 'Enviroment': did you mean 'Environment'?"),
    ("ResourceConfig.InstanceType", "ml.m5.larg", "enum value set: [ml.m4.xlarge, "),
    ("ResourceConfig.InstanceType", "ml.m5.larg", "did you mean 'ml.m5.large'?"),
    ("ResourceConfig.InstanceCount", -1, "Value '-1' at 'ResourceConfig.InstanceCount'"),
    (
        "ResourceConfig.InstanceCount",
        True,
        "'ResourceConfig.InstanceCount' failed to satisfy constraint: Member must be",
    ),
    ("ResourceConfig.InstanceCount", 1.5, "of type integer"),
    ("ResourceConfig.InstanceCount", "1", "of type integer"),
    ("ResourceConfig.VolumeSizeInGB", 2**31, "fit into 32 bits"),
    ("ResourceConfig.KeepAlivePeriodInSeconds", 10**6, "Member must have value less than or equal to "),
    ("StoppingCondition.MaxRuntimeInSeconds", 0, "Member must have value greater than or equal to 1"),
    ("HyperParameters", {str(n): "1" for n in range(101)}, "at 'HyperParameters' failed to satisfy constraint: Member"),
    ("HyperParameters", {"k" * 257: "v"}, "at 'HyperParameters (a key)' failed"),
    ("HyperParameters", {"k": "v" * 2501}, "at 'HyperParameters.k' failed"),
    ("HyperParameters", {"k": 1}, "at 'HyperParameters.k' failed to satisfy constraint: Member must be of type string"),
    ("HyperParameters", [], "Member must be of type map"),
    ("InputDataConfig", [JOB["InputDataConfig"][0]] * 21, "at 'InputDataConfig' failed to satisfy constraint: Member"),
    ("InputDataConfig.0.ChannelName", "a/b", "at 'InputDataConfig[0].ChannelName' failed to satisfy constraint"),
    ("InputDataConfig.0.DataSource.S3DataSource.S3Uri", "ftp://b", "(or file:///…, a path of this machine)"),
    ("InputDataConfig.0.DataSource.S3DataSource.S3Uri", "file://b", "at 'InputDataConfig[0].DataSource.S3DataSource"),
    ("EnableManagedSpotTraining", "yes", "Member must be of type boolean"),
    ("Tags", [{"Key": "a"}], "Value null at 'Tags[0].Value'"),
    ("Tags", [{"Key": "a!", "Value": ""}], "at 'Tags[0].Key' failed"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_a_wrong_member_is_named_with_its_value_and_what_it_should_be(path: str, value: Any, message: str) -> None:
    answer = refusal(changed(path, value))
    assert answer.startswith("1 validation error detected: ")
    assert message in answer


RIGHT = [
    ("InputDataConfig.0.DataSource.S3DataSource.S3Uri", "file:///home/me/photos"),
    ("OutputDataConfig.S3OutputPath", "file:///home/me/out"),
    ("Tags", [{"Key": "équipe", "Value": ""}]),
    ("HyperParameters", {}),
    ("MlflowConfig", {"MlflowResourceArn": "arn:aws:sagemaker:us-east-1:000000000000:mlflow-app/app-A1B2C3"}),
]


@pytest.mark.parametrize(("path", "value"), RIGHT)
def test_a_right_member_passes(path: str, value: Any) -> None:
    validate(operation_model("sagemaker", "CreateTrainingJob"), changed(path, value))


def test_all_problems_are_told_at_once() -> None:
    request = {"TrainingJobName": "a b", "RoleArn": "me", "Hyper": 1, "EnableNetworkIsolation": 1}
    answer = refusal(request)
    assert answer.startswith("5 validation errors detected: ")
    for place in ("TrainingJobName", "RoleArn", "Hyper", "EnableNetworkIsolation", "OutputDataConfig"):
        assert f"'{place}'" in answer


def test_a_long_value_is_shortened_in_the_message() -> None:
    assert len(refusal(changed("RoleArn", "x" * 2000))) < 500


def test_a_pattern_takes_no_longer_for_a_nasty_value() -> None:
    refusal(changed("TrainingJobName", "a" + "-" * 61 + "!"))
    refusal(changed("RoleArn", "arn:aws" + "-" * 2000))
    refusal(changed("RoleArn", "arn:aws:iam::" + "0" * 2000))


def test_every_pattern_of_the_operations_here_is_one_of_pythons() -> None:
    invocations = {"sagemaker-runtime": ["InvokeEndpoint", "InvokeEndpointAsync"]}
    invoked = invocations["sagemaker-runtime"]
    created = {"sagemaker": [*OPERATIONS["sagemaker"], *(table for table in TABLES if table not in invoked)]}
    for service, operations in {**OPERATIONS, **created, **invocations}.items():
        for operation in operations:
            for pattern in patterns(operation_model(service, operation).input_shape):
                compile_pattern(pattern)


def patterns(shape: Shape) -> set[str]:
    found = {shape.metadata["pattern"]} if "pattern" in shape.metadata else set()
    inner = {"structure": lambda s: s.members.values(), "list": lambda s: [s.member], "map": lambda s: [s.key, s.value]}
    for one in inner.get(shape.type_name, lambda _: [])(shape):
        found |= patterns(one)
    return found


def test_of_a_union_exactly_one_member_is_set() -> None:
    shape = service_model("sagemaker").shape_for("CollectionConfig")
    assert problems_of({"VectorConfig": {"Dimension": 3}}, shape) == []
    assert "Exactly one of" in problems_of({}, shape, "Config")[0]


BODIES = [
    (b"{", "not the JSON"),
    (b"\xff", "not the JSON"),
    (b"[]", "a JSON list. Send an object"),
    (b"5", "a JSON int"),
    (b'{"a": NaN}', "NaN is not a number of JSON"),
    (b'{"a": "\\u0000"}', "U.0000"),
    (b'{"a": "\\ud800"}', "surrogates not allowed"),
    (b'{"\\ud800": 1}', "surrogates not allowed"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a": ' + b"9" * 10_000 + b"}", "not the JSON"),
]


@pytest.mark.parametrize(("body", "message"), BODIES, ids=range(len(BODIES)))
def test_a_body_that_is_no_request_is_a_serialization_exception(body: bytes, message: str) -> None:
    with pytest.raises(AwsError, match=message) as caught:
        read_json(body)
    assert caught.value.code == "SerializationException"


def test_a_null_is_the_same_as_nothing() -> None:
    assert read_json(b'{"a": null, "b": {"c": null}, "d": [null, 1]}') == {"b": {}, "d": [1]}
    assert read_json(b"") == {}


def test_a_number_beyond_all_bounds_is_no_number() -> None:
    shape = service_model("sagemaker").shape_for("Float")
    assert "finite" in problems_of(read_json(b'{"a": 1e999}')["a"], shape, "a")[0]


def test_an_answer_shows_what_the_model_has_and_nothing_private() -> None:
    shape = operation_model("sagemaker", "DescribeTrainingJob").output_shape
    document = {
        **JOB,
        "_life": 1,
        "Unknown": 2,
        "FailureReason": None,
        "CreationTime": 1.5,
        "HyperParameters": {"a": "1"},
    }
    document["ResourceConfig"] = {**JOB["ResourceConfig"], "_host": "x"}
    shown = shaped(document, shape)
    assert shown == {**JOB, "CreationTime": 1.5, "HyperParameters": {"a": "1"}}
    assert shaped({"a": 1}, None) == {}


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(AwsError, match="no operation 'MakeCoffee'") as caught:
        operation_model("sagemaker", "MakeCoffee")
    assert caught.value.code == "UnknownOperationException"


def test_a_model_error_carries_what_the_container_said() -> None:
    body = error_body(ModelError("Received 500", 500, "out of memory", "arn:aws:logs:…"))
    members = service_model("sagemaker-runtime").shape_for("ModelError")
    assert set(body) - {"__type", "message"} == set(members.members)  # type: ignore[attr-defined]
