"""Every tuning request is one that botocore's service model accepts, patterns and enums included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kennel.contract.errors import ConfigError
from kennel.driver.requests.space import read
from kennel.driver.requests.training import Channel, Machines, Security, Training, unique_name
from kennel.driver.requests.tuning import Completion, Objective, Tuning, check, create_tuning_job, objective_by_name
from kennel.driver.requests.validate import problems

pytestmark = pytest.mark.pure

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/kennel-train:3d8a58593f12"
TRAINING = Training(
    name="anything",
    image=IMAGE,
    role="arn:aws:iam::123456789012:role/kennel",
    channels=(Channel("train", "s3://dogs/train/"), Channel("pretrained", "s3://dogs/weights/", "FastFile")),
    output_uri="s3://dogs/output",
    machines=Machines("ml.g4dn.xlarge", keep_alive_s=600),
    hyperparameters={"epochs": 3, "lr": 0.1, "compile": False},
    spot=True,
    checkpoint_uri="s3://dogs/checkpoints/x",
    environment={"WHY": "not"},
    security=Security(("subnet-1",), ("sg-1",), True, True, "alias/volume", "alias/output"),
)
PLAIN = Tuning(
    name=unique_name("tune"),
    training=TRAINING,
    space=read({"lr": "log:1e-5..1e-1", "batch_size": "16,32", "epochs": "2..10"}),
    objective=Objective("validation_accuracy", maximize=True),
)
GRID = replace(PLAIN, strategy="Grid", space=read({"batch_size": "16,32", "optimizer": "adamw,sgd"}))
STOPPED_GRID = replace(GRID, early_stopping=True)
WHOLE = replace(
    PLAIN,
    objective=Objective("validation_loss", maximize=False),
    max_runtime_s=3600,
    early_stopping=True,
    seed=7,
    completion=Completion(0.1, 5, on_convergence=True),
    parents=("kennel-tune-1", "kennel-tune-2"),
    tags={"project": "dogs"},
)


@pytest.mark.parametrize(
    "tuning", [PLAIN, WHOLE, GRID, STOPPED_GRID, replace(PLAIN, strategy="Hyperband"), replace(WHOLE, transfer=True)]
)
def test_the_service_model_accepts_the_request(tuning: Tuning) -> None:
    check(tuning)
    assert problems("CreateHyperParameterTuningJob", create_tuning_job(tuning), file_uris=False) == []


def test_trials_have_what_the_training_job_would_have_but_what_is_tuned() -> None:
    made = create_tuning_job(PLAIN)["TrainingJobDefinition"]
    assert made["StaticHyperParameters"] == {"compile": "off"}
    assert "KeepAlivePeriodInSeconds" not in made["ResourceConfig"]
    assert {one["Name"] for one in made["AlgorithmSpecification"]["MetricDefinitions"]} >= {"validation_accuracy"}
    assert made["CheckpointConfig"] == {"S3Uri": "s3://dogs/checkpoints/x"}
    assert "TrainingJobName" not in made
    assert "Tags" not in made


def test_ranges_travel_as_text_as_they_were_written() -> None:
    config = create_tuning_job(PLAIN)["HyperParameterTuningJobConfig"]
    assert config["ParameterRanges"] == {
        "ContinuousParameterRanges": [
            {"Name": "lr", "MinValue": "1e-5", "MaxValue": "1e-1", "ScalingType": "Logarithmic"}
        ],
        "IntegerParameterRanges": [{"Name": "epochs", "MinValue": "2", "MaxValue": "10", "ScalingType": "Auto"}],
        "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["16", "32"]}],
    }
    assert "RandomSeed" not in config
    assert "TuningJobCompletionCriteria" not in config


def test_a_grid_leaves_the_count_to_sagemaker() -> None:
    assert create_tuning_job(GRID)["HyperParameterTuningJobConfig"]["ResourceLimits"] == {"MaxParallelTrainingJobs": 2}
    assert GRID.jobs == 4


def test_hyperband_gives_epochs() -> None:
    made = create_tuning_job(replace(PLAIN, strategy="Hyperband", epochs=(1, 27)))["HyperParameterTuningJobConfig"]
    assert made["StrategyConfig"] == {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 27}}
    assert made["TrainingJobEarlyStoppingType"] == "Off"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"space": ()}, "Nothing is to be tuned"),
        ({"strategy": "Grid"}, "write the values of lr, epochs one by one"),
        ({"strategy": "Hyperband", "early_stopping": True}, "Hyperband has no early stopping beside its own"),
        ({"strategy": "Hyperband", "epochs": (5, 3)}, "from 5 to 3 epochs"),
        ({"max_runtime_s": 60}, "SageMaker's least limit is 120 s"),
        ({"parents": tuple("abcdef")}, "6 parents; SageMaker takes 5"),
        ({"transfer": True}, "--warm-start JOB"),
    ],
)
def test_what_a_strategy_cannot_do_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(replace(PLAIN, **changed))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "maximize"), [("validation:accuracy", True), ("validation_loss", False), ("images_per_second", True)]
)
def test_an_objective_is_named_and_no_expression_is_written(name: str, maximize: bool) -> None:
    assert objective_by_name(name) == Objective(name.replace(":", "_"), maximize)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("validation:acuracy", "Did you mean 'validation_accuracy'?"),
        ("test:accuracy", "Use validation:accuracy"),
        ("f1", "Use one of train_loss"),
    ],
)
def test_an_objective_that_training_does_not_print_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        objective_by_name(name)
    assert said in str(refused.value)


def test_a_name_with_the_time_in_it_fits_into_32_characters() -> None:
    assert len(unique_name("tune")) == 32
