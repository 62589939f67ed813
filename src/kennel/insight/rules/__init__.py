"""The rules by AWS's names, and those that run where nobody has chosen any."""

from __future__ import annotations

from kennel.insight.rules.all_zero import AllZero
from kennel.insight.rules.base import Rule
from kennel.insight.rules.check_input_images import CheckInputImages
from kennel.insight.rules.class_imbalance import ClassImbalance
from kennel.insight.rules.confusion import Confusion
from kennel.insight.rules.dead_relu import DeadRelu
from kennel.insight.rules.exploding_tensor import ExplodingTensor
from kennel.insight.rules.loss_not_decreasing import LossNotDecreasing
from kennel.insight.rules.overfit import Overfit
from kennel.insight.rules.overtraining import Overtraining
from kennel.insight.rules.poor_weight_initialization import PoorWeightInitialization
from kennel.insight.rules.saturated_activation import SaturatedActivation
from kennel.insight.rules.similar_across_runs import SimilarAcrossRuns
from kennel.insight.rules.stalled_training import StalledTrainingRule
from kennel.insight.rules.tensor_variance import TensorVariance
from kennel.insight.rules.unchanged_tensor import UnchangedTensor
from kennel.insight.rules.vanishing_gradient import VanishingGradient
from kennel.insight.rules.weight_update_ratio import WeightUpdateRatio

RULES: dict[str, type[Rule]] = {
    rule.__name__: rule
    for rule in (
        VanishingGradient,
        ExplodingTensor,
        DeadRelu,
        PoorWeightInitialization,
        SaturatedActivation,
        WeightUpdateRatio,
        AllZero,
        UnchangedTensor,
        TensorVariance,
        LossNotDecreasing,
        Overfit,
        Overtraining,
        ClassImbalance,
        Confusion,
        CheckInputImages,
        StalledTrainingRule,
        SimilarAcrossRuns,
    )
}

# `auto`: what says something about any training, with parameters under which a sound one stays quiet. Left out:
# Confusion (every class below 90 % is a finding), CheckInputImages (the trainer always normalises), and those that need
# a choice.
AUTO: dict[str, dict[str, str]] = {
    "VanishingGradient": {},
    "ExplodingTensor": {},
    "DeadRelu": {},
    "PoorWeightInitialization": {"steps": "20", "patience": "10"},  # losses of single batches go up and down
    "SaturatedActivation": {},
    "WeightUpdateRatio": {},
    "AllZero": {"collection_names": "gradients,losses"},
    "UnchangedTensor": {"collection_names": "losses", "tensor_regex": "^sample/"},
    "LossNotDecreasing": {"least_losses": "20"},  # of Kennel's hook those of an epoch; two epochs are compared
    "Overfit": {"ratio_threshold": "0.5", "patience": "3"},
    "Overtraining": {},
    "ClassImbalance": {},
    "StalledTrainingRule": {},
}
