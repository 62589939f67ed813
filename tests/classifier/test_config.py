import dataclasses

import pytest

from kennel.contract.errors import ConfigError
from kennel.contract.hyperparameters import HYPERPARAMETERS, TrainConfig, canonical, parse_hyperparameters

pytestmark = pytest.mark.pure


def test_defaults_lie_in_their_own_ranges() -> None:
    as_strings = {name: str(value) for name, value in dataclasses.asdict(TrainConfig()).items()}
    assert parse_hyperparameters(as_strings) == TrainConfig()


def test_strings_become_typed_values() -> None:
    config = parse_hyperparameters({"epochs": "3", "lr": "1e-2", "arch": "mobilenet_v2"})
    assert (config.epochs, config.lr, config.arch) == (3, 0.01, "mobilenet_v2")


def test_hyphens_and_underscores_mean_the_same() -> None:
    assert parse_hyperparameters({"batch-size": "8"}).batch_size == 8


def test_strings_quoted_by_the_sdk_are_unquoted() -> None:
    assert parse_hyperparameters({"optimizer": '"sgd"', "lr": '"0.5"'}).lr == 0.5


def test_names_of_the_platform_are_passed_over() -> None:
    names = ("container_log_level", "job_name", "enable_cloudwatch_metrics", "mpi_enabled", "s3_output")
    raw = {"_tuning_objective_metric": "validation_accuracy", "sagemaker-region": "x", "default_user_module_name": "m"}
    raw |= {f"sagemaker_{name}": "1" for name in names}
    assert parse_hyperparameters(raw) == TrainConfig()


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Unknown hyperparameter 'batchsize'. Did you mean 'batch_size'?"):
        parse_hyperparameters({"batchsize": "8"})


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_hyperparameters({"epochs": "0", "lr": "fast", "optimizer": "adam", "zzz": "1"})
    assert len(caught.value.problems) == 4
    assert "'adam'. Use one of adamw, sgd." in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1.5", "1e9", "", "0x10"])
def test_a_number_outside_its_range_or_type_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"'epochs' has value .*1\.\.10000"):
        parse_hyperparameters({"epochs": value})


def test_both_spellings_with_different_values_are_refused_in_one_sentence_that_names_both() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_hyperparameters({"batch-size": "8", "batch_size": '"9"'})
    assert caught.value.problems == (
        "Hyperparameter 'batch-size' has value '8' and, as 'batch_size', value '9'. The two names mean the same: "
        "keep one.",
    )
    with pytest.raises(ConfigError, match="as 'batch-size', value '9'"):
        canonical({"batch_size": 8, "batch-size": 9})


def test_both_spellings_with_one_value_are_taken_once() -> None:
    assert parse_hyperparameters({"batch-size": '"8"', "batch_size": "8"}).batch_size == 8
    assert canonical({"batch-size": 8, "batch_size": 8, "lr": 1}) == {"batch_size": 8, "lr": 1}


@pytest.mark.parametrize("flag", ["batch-size", "batch_size"])
@pytest.mark.parametrize("sent", ["batch-size", "batch_size"])
def test_a_later_layer_counts_in_either_spelling(sent: str, flag: str) -> None:
    assert parse_hyperparameters({sent: "8"}, {flag: "16"}).batch_size == 16


def test_every_hyperparameter_has_help_and_a_range_or_choices() -> None:
    for row in HYPERPARAMETERS.values():
        assert row.help
        assert row.name == "arch" or row.describe_range() != "any"


def test_a_stage_is_a_value_of_train_layers_that_only_the_network_can_check() -> None:
    assert parse_hyperparameters({"train_layers": "layer4"}).train_layers == "layer4"
    assert HYPERPARAMETERS["train_layers"].describe_range() == "all, head or a stage"


def test_everything_beyond_the_plain_recipe_is_off_by_default() -> None:
    row = TrainConfig()
    assert (row.mixup, row.cutmix, row.augment, row.ema_decay, row.clip_norm, row.patience) == (0, 0, "none", 0, 0, 0)
    assert (row.class_weights, row.sampling, row.compile) == ("none", "shuffled", "off")
    assert (row.accumulate_steps, row.backbone_lr_factor, row.hflip) == (1, 1.0, 0.5)
