"""Models and endpoint configurations through boto3."""

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.emulator_harness import REGION, Emulator

IMAGE = "kennel-serve"
ARN = f"arn:aws:sagemaker:{REGION}:000000000000"


def refusal(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return str(caught.value.response["Error"]["Message"])


@pytest.fixture(scope="module")
def sagemaker(emulator: Emulator) -> Any:
    return emulator.client("sagemaker")


def test_a_model_is_kept_as_it_was_sent(sagemaker: Any, tmp_path: Path) -> None:
    data = tmp_path / "model.tar.gz"
    data.touch()
    container = {"Image": IMAGE, "ModelDataUrl": data.as_uri(), "Environment": {"A": "1"}, "Mode": "SingleModel"}
    role = "arn:aws:iam::000000000000:role/kennel"
    answer = sagemaker.create_model(ModelName="kept", PrimaryContainer=container, ExecutionRoleArn=role)
    assert answer["ModelArn"] == f"{ARN}:model/kept"
    model = sagemaker.describe_model(ModelName="kept")
    assert model["PrimaryContainer"] == container
    assert (model["ExecutionRoleArn"], model["EnableNetworkIsolation"]) == (role, False)
    assert "Tags" not in model
    assert "_tags" not in model
    sagemaker.delete_model(ModelName="kept")
    for call in (sagemaker.describe_model, sagemaker.delete_model):
        assert refusal(call, ModelName="kept") == f'Could not find model "{ARN}:model/kept".'


def test_a_models_name_is_taken_once(sagemaker: Any) -> None:
    sagemaker.create_model(ModelName="once", PrimaryContainer={"Image": IMAGE})
    message = refusal(sagemaker.create_model, ModelName="once", PrimaryContainer={"Image": IMAGE})
    assert message.startswith(f'Cannot create already existing model "{ARN}:model/once".')


WRONG_MODELS = [
    ({}, "There are 0 containers"),
    ({"Containers": [{"Image": IMAGE}] * 2}, "There are 2 containers"),
    ({"PrimaryContainer": {"Image": IMAGE}, "Containers": [{"Image": IMAGE}]}, "send one, as PrimaryContainer"),
    ({"PrimaryContainer": {"ModelDataUrl": "s3://b/m.tar.gz"}}, "PrimaryContainer: Image must not be null"),
    ({"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://b/m"}}, "must end in .tar.gz"),
    (
        {"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "file:///no/m.tar.gz"}},
        "Could not find model data at file",
    ),
    ({"PrimaryContainer": {"Image": IMAGE, "Mode": "MultiModel"}}, "must be the prefix"),
    ({"PrimaryContainer": {"ModelPackageName": "p"}}, "'PrimaryContainer.ModelPackageName' is not emulated"),
]


@pytest.mark.parametrize(("request_", "message"), WRONG_MODELS, ids=[message for _, message in WRONG_MODELS])
def test_a_model_that_could_not_serve_is_refused(sagemaker: Any, request_: dict[str, Any], message: str) -> None:
    assert message in refusal(sagemaker.create_model, ModelName="wrong", **request_)


def test_a_container_in_a_list_of_one_is_a_model(sagemaker: Any) -> None:
    sagemaker.create_model(ModelName="listed-container", Containers=[{"Image": IMAGE}])
    assert sagemaker.describe_model(ModelName="listed-container")["Containers"] == [{"Image": IMAGE}]


def test_models_are_listed_the_newest_first(sagemaker: Any) -> None:
    for number in range(12):
        sagemaker.create_model(ModelName=f"many-{number:02}", PrimaryContainer={"Image": IMAGE})
    first = sagemaker.list_models(NameContains="many-")
    assert [model["ModelName"] for model in first["Models"]] == [f"many-{n:02}" for n in range(11, 1, -1)]
    rest = sagemaker.list_models(NameContains="many-", NextToken=first["NextToken"])
    assert [model["ModelName"] for model in rest["Models"]] == ["many-01", "many-00"]
    assert "NextToken" not in rest
    by_name = sagemaker.list_models(NameContains="many-", SortBy="Name", SortOrder="Ascending", MaxResults=1)
    assert by_name["Models"][0]["ModelName"] == "many-00"


def variant(**changes: Any) -> dict[str, Any]:
    given = {"VariantName": "a", "ModelName": "shared", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


@pytest.fixture(scope="module")
def shared(sagemaker: Any) -> None:
    sagemaker.create_model(ModelName="shared", PrimaryContainer={"Image": IMAGE})


@pytest.mark.usefixtures("shared")
def test_an_endpoint_configuration_is_kept_with_the_weights_that_it_did_not_name(sagemaker: Any) -> None:
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 50,
        "DestinationS3Uri": "file:///tmp/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    variants = [variant(), variant(VariantName="b", InitialVariantWeight=3)]
    answer = sagemaker.create_endpoint_config(
        EndpointConfigName="two",
        ProductionVariants=variants,
        DataCaptureConfig=capture,
        Tags=[{"Key": "k", "Value": "v"}],
    )
    config = sagemaker.describe_endpoint_config(EndpointConfigName="two")
    assert config["ProductionVariants"] == [{**variants[0], "InitialVariantWeight": 1.0}, variants[1]]
    assert config["DataCaptureConfig"] == capture
    assert sagemaker.list_tags(ResourceArn=answer["EndpointConfigArn"])["Tags"] == [{"Key": "k", "Value": "v"}]
    names = [one["EndpointConfigName"] for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]]
    assert names == ["two"]
    sagemaker.delete_endpoint_config(EndpointConfigName="two")
    message = refusal(sagemaker.describe_endpoint_config, EndpointConfigName="two")
    assert message == f'Could not find endpoint configuration "{ARN}:endpoint-config/two".'


WRONG_VARIANTS = [
    ([variant(ModelName="nothing")], f'ProductionVariants[0]: Could not find model "{ARN}:model/nothing"'),
    ([variant(), variant()], "VariantName 'a' is given twice"),
    ([variant(InstanceType=None)], "InstanceType must not be null without ServerlessConfig"),
    (
        [variant(ServerlessConfig={"MaxConcurrency": 1, "MemorySizeInMB": 2048})],
        "InstanceType and ServerlessConfig exclude each other",
    ),
    ([variant(ModelName=None)], "ModelName must not be null"),
    ([variant(InitialVariantWeight=-1)], "Member must have value greater than or equal to 0"),
    ([variant(AcceleratorType="ml.eia1.medium")], "'ProductionVariants.AcceleratorType' is not emulated"),
    ([], "Member must have length greater than or equal to 1"),
]


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(("variants", "message"), WRONG_VARIANTS, ids=[message for _, message in WRONG_VARIANTS])
def test_a_configuration_that_could_not_be_deployed_is_refused(emulator: Emulator, variants: Any, message: str) -> None:
    from botocore.config import Config

    client = emulator.client("sagemaker", config=Config(parameter_validation=False))
    assert message in refusal(client.create_endpoint_config, EndpointConfigName="wrong", ProductionVariants=variants)
