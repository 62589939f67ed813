"""Each rule fires on a training that is set up badly on purpose, and is quiet on a sound one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kennel.contract.hyperparameters import RULES as NAMES
from kennel.insight.rules import AUTO, RULES
from tests.insight.conftest import judge, statuses

FIRING = [  # the training, the rule with its parameters, what the sentence and the advice have to say
    ("vanishing", "VanishingGradient", "mean absolute gradient", "lr"),
    ("exploding", "ExplodingTensor", "has the value nan", "clip_norm"),
    ("dead_relu", "DeadRelu", "100 % of the 8 nodes of 1_output_0 are dead", "warmup_epochs"),
    ("poor_start", "PoorWeightInitialization", "The loss does not decrease, and the inputs of", "pretrained"),
    ("saturated", "SaturatedActivation", "nodes of 9_input_0 (tanh) are saturated", "lr"),
    ("large_updates", "WeightUpdateRatio", "times its size, more than 10", "Lower lr"),
    ("no_updates", "WeightUpdateRatio", "of its size, less than 1e-08", "Raise lr"),
    ("dead_relu", "AllZero:collection_names=gradients", "gradient/Sequential_0.weight are zero", "lr"),
    ("no_updates", "UnchangedTensor:tensor_regex=^sample/", "has not changed over 3 saved steps", "Raise lr"),
    ("saturated", "TensorVariance:collection_names=weights:max_threshold=1000", "Sequential_8.weight is", "lr"),
    ("large_updates", "TensorVariance:tensor_regex=^variance/:max_threshold=100", "above 100", "lr"),
    ("imbalanced", "LossNotDecreasing:least_losses=20", "The loss has risen by", "Lower lr"),
    ("no_updates", "LossNotDecreasing:least_losses=20", "The loss is not decreasing", "lr"),
    ("by_heart", "Overfit", "above the training loss", "weight_decay"),
    ("by_heart", "Overtraining", "has not improved", "patience=10"),
    ("imbalanced", "ClassImbalance", "Class 0 has", "class_weights=balanced"),
    ("no_updates", "ClassImbalance", "images of class 0 are predicted wrong", "balanced"),
    ("indistinguishable", "Confusion", "are of class", "images"),
    ("not_normalised", "CheckInputImages", "the mean of colour channel 0 is 12", "Subtract the mean"),
    ("stalling", "StalledTrainingRule:threshold=2", "s between steps 5 and 6; 2 s are allowed", "num_workers"),
    ("other_seed", "SimilarAcrossRuns:other_trial=SOUND", "differs from the other run's", "seed"),
]
QUIET = [
    "VanishingGradient", "ExplodingTensor", "DeadRelu", "PoorWeightInitialization", "SaturatedActivation",
    "WeightUpdateRatio", "AllZero:collection_names=gradients", "UnchangedTensor:tensor_regex=^sample/",
    "TensorVariance:collection_names=weights:max_threshold=1000", "LossNotDecreasing:least_losses=20", "Overfit",
    "Overtraining", "ClassImbalance", "Confusion", "CheckInputImages", "StalledTrainingRule",
    "SimilarAcrossRuns:other_trial=SOUND",
]  # fmt: skip


@pytest.mark.parametrize(("training", "rule", "sentence", "advice"), FIRING)
def test_a_bad_training_makes_the_rule_fire(
    trainings: Path, training: str, rule: str, sentence: str, advice: str
) -> None:
    result = judge(trainings / training, rule.replace("SOUND", str(trainings / "sound")))
    [row] = result["rules"]
    assert (row["status"], row["detail"]) == ("IssuesFound", "")
    assert row["triggered"] >= len(result["findings"]) > 0
    assert any(sentence in finding["sentence"] for finding in result["findings"]), result["findings"]
    assert all(advice in finding["advice"] for finding in result["findings"])
    json.dumps(result, allow_nan=False)  # numbers that are not finite would make no JSON


@pytest.mark.parametrize("rule", QUIET)
def test_a_sound_training_leaves_the_rule_quiet(trainings: Path, rule: str) -> None:
    result = judge(trainings / "sound", rule.replace("SOUND", str(trainings / "sound")))
    [row] = result["rules"]
    assert (row["status"], result["findings"], result["notes"]) == ("NoIssuesFound", [], [])
    assert row["datapoints"] > 0


def test_every_rule_is_proven_on_both_sides() -> None:
    assert {rule.partition(":")[0] for _, rule, *_ in FIRING} == set(RULES)
    assert {rule.partition(":")[0] for rule in QUIET} == set(RULES)


def test_the_trainer_knows_the_names_of_all_rules() -> None:
    assert tuple(RULES) == NAMES
    assert set(AUTO) <= set(RULES)


def test_what_runs_by_itself_is_quiet_on_a_sound_training(trainings: Path) -> None:
    found = judge(trainings / "sound", "auto")
    assert found["findings"] == []
    assert set(statuses(found).values()) == {"NoIssuesFound"}


def test_findings_name_step_tensor_value_and_threshold(trainings: Path) -> None:
    first = judge(trainings / "dead_relu", "DeadRelu")["findings"][0]
    assert (first["step"], first["mode"], first["tensor"]) == (0, "TRAIN", "1_output_0")
    assert (first["value"], first["threshold"]) == (100.0, 50.0)


def test_values_that_are_no_numbers_are_words_in_json(trainings: Path) -> None:
    first = judge(trainings / "exploding", "ExplodingTensor")["findings"][0]
    assert first["value"] == "nan"


WHOLE = [  # rules over the whole tensors that a Debugger customer's configuration saves
    "VanishingGradient", "ExplodingTensor", "DeadRelu", "PoorWeightInitialization", "SaturatedActivation",
    "WeightUpdateRatio", "AllZero:collection_names=weights", "UnchangedTensor:collection_names=weights",
    "TensorVariance:collection_names=gradients:max_threshold=1e9", "CheckInputImages:threshold_samples=60",
    "LossNotDecreasing", "ClassImbalance:samples=60", "Confusion:min_diag=0:max_off_diag=1",
    "Overfit:ratio_threshold=9",
]  # fmt: skip


def test_rules_judge_whole_tensors_as_well(trainings: Path) -> None:
    result = judge(trainings / "configured", ",".join(WHOLE))
    assert {row["rule"]: row["datapoints"] for row in result["rules"] if not row["datapoints"]} == {}
    assert statuses(result)["DeadRelu"] == statuses(result)["VanishingGradient"] == "NoIssuesFound"


def test_a_rule_without_its_tensors_says_what_to_turn_on(trainings: Path) -> None:
    [row] = judge(trainings / "vanishing", "DeadRelu")["rules"]
    assert row["status"] == "NotEnoughData"
    assert "turn on collection relu_output" in row["detail"]
    [row] = judge(trainings / "other_seed", "ClassImbalance")["rules"]
    assert row["detail"] == "not enough data: 320 training labels of 500 (samples)"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("DeadRelu:treshold_layer=1", "did you mean 'threshold_layer'?"),
        ("DeadRelu:threshold_layer=many", "threshold_layer is 'many'; write a number"),
        ("ExplodingTensor:only_nan=perhaps", "write True or False"),
        ("SaturatedActivation:threshold_tanh=3", "write (low, high)"),
        ("SimilarAcrossRuns:other_trial=/nowhere", "where there are no tensors"),
    ],
)
def test_a_wrong_parameter_is_an_error_of_that_rule_alone(trainings: Path, rule: str, said: str) -> None:
    result = judge(trainings / "sound", f"{rule},AllZero:collection_names=losses")
    wrong, other = result["rules"]
    assert wrong["status"] == "Error"
    assert said in wrong["detail"]
    assert other["status"] == "NoIssuesFound"


def test_parameters_change_the_verdict(trainings: Path) -> None:
    def status(rule: str) -> Any:
        return judge(trainings / "dead_relu", rule)["rules"][0]["status"]

    assert status("DeadRelu:threshold_layer=100") == "NoIssuesFound"
    assert status("VanishingGradient:threshold=0") == "NoIssuesFound"
