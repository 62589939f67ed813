"""A search space is read from text and held against the trainer's table."""

from __future__ import annotations

import pytest

from kennel.contract.errors import ConfigError
from kennel.driver.requests.space import CATEGORICAL, CONTINUOUS, INTEGER, Parameter, combinations, read

pytestmark = pytest.mark.pure


def test_ranges_and_lists_become_parameters() -> None:
    found = read(
        {"lr": "log:1e-5..1e-1", "batch-size": "16, 32,64", "epochs": "2..10", "momentum": "reverselog:0.5..0.99"}
    )
    assert found == (
        Parameter("lr", CONTINUOUS, "1e-5", "1e-1", "Logarithmic"),
        Parameter("batch_size", CATEGORICAL, values=("16", "32", "64")),
        Parameter("epochs", INTEGER, "2", "10"),
        Parameter("momentum", CONTINUOUS, "0.5", "0.99", "ReverseLogarithmic"),
    )
    assert [str(one) for one in found] == ["log:1e-5..1e-1", "16,32,64", "2..10", "reverselog:0.5..0.99"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("epoch", "1..3", "Unknown hyperparameter 'epoch' in the search space. Did you mean 'epochs'?"),
        ("lr", "1e-3", "Write a range, such as log:1e-5..1e-1 or 2..10, or a list"),
        ("lr", "cubic:1..2", "the scaling 'cubic' is none of auto, linear, log, reverselog"),
        ("lr", "1e-1..1e-5", "its lower end must be below its upper one"),
        ("lr", "log:0..1", "a logarithmic one begins above 0"),
        ("lr", "1e-3..1000", "Hyperparameter 'lr' has value '1000'. Use a number in 1e-08..100."),
        ("lr", "a..b", "Write a range"),
        ("epochs", "0..3", "Hyperparameter 'epochs' has value '0'"),
        ("epochs", "1.5..3", "Use a whole number in 1..10000"),
        ("momentum", "reverselog:0..1", "lies in 0 <= x < 1"),
        ("batch_size", "16,16", "a value is in it twice"),
        ("batch_size", "16,x", "Hyperparameter 'batch_size' has value 'x'"),
        ("optimizer", "adamw,sdg", "Hyperparameter 'optimizer' has value 'sdg'. Use one of adamw, sgd."),
        ("optimizer", "a..b", "no range of it. Write a list; 'optimizer' takes adamw, sgd."),
        ("seed", ",".join(map(str, range(31))), "'seed' has 31 values; SageMaker takes 30."),
    ],
)  # fmt: skip
def test_what_training_or_sagemaker_would_refuse_is_refused(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read({name: text})
    assert said in str(refused.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        read({"epoch": "1..3", "lr": "2", "batch_size": "16,32"})
    assert len(refused.value.problems) == 2


def test_a_grid_has_every_combination() -> None:
    assert combinations(read({"batch_size": "16,32,64", "optimizer": "adamw,sgd"})) == 6


def test_one_hyperparameter_in_two_spellings_is_an_error_that_names_both() -> None:
    with pytest.raises(ConfigError, match="'batch-size' has value '8,16' and, as 'batch_size', value '16,32'"):
        read({"batch-size": "8,16", "batch_size": "16,32"})
