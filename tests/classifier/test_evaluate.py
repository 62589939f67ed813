"""Scores against values worked out by hand."""

import math

import pytest
import torch

from kennel.classifier.evaluation.calibration import ConfidenceBin, confidence_bins, expected_calibration_error
from kennel.classifier.evaluation.evaluate import Evaluation, evaluate
from kennel.classifier.evaluation.mistakes import ConfusedPair, Mistake, confused_pairs, worst_mistakes

pytestmark = pytest.mark.pure

# Six images of classes 0, 0, 0, 1, 1, 2; predicted 0, 0, 1, 1, 0, 1.
PROBABILITIES = torch.tensor(
    [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.9, 0.1, 0.0], [0.1, 0.7, 0.2]]
)
SIX = Evaluation(PROBABILITIES, torch.tensor([0, 0, 0, 1, 1, 2]))


def test_rows_of_the_confusion_matrix_are_true_classes() -> None:
    assert SIX.confusion().tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]


def test_loss_and_accuracy_by_hand() -> None:
    assert SIX.accuracy == 0.5
    expected = -sum(math.log(p) for p in (0.7, 0.5, 0.3, 0.8, 0.1, 0.2)) / 6
    assert SIX.loss == pytest.approx(expected, rel=1e-6)


def test_precision_recall_and_f1_by_hand() -> None:
    zero, one, two = SIX.per_class(["a", "b", "c"])
    assert zero == {
        "class": "a",
        "images": 3,
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
    }
    assert (one["precision"], one["recall"], one["f1"]) == pytest.approx((1 / 3, 1 / 2, 2 / 5))
    assert (two["images"], two["precision"], two["recall"], two["f1"]) == (1, 0.0, 0.0, 0.0)  # never predicted


def test_macro_averages_weigh_classes_alike() -> None:
    assert SIX.macro() == {
        "precision": pytest.approx((2 / 3 + 1 / 3 + 0) / 3),
        "recall": pytest.approx((2 / 3 + 1 / 2 + 0) / 3),
        "f1": pytest.approx((2 / 3 + 2 / 5 + 0) / 3),
    }


def test_macro_averages_leave_out_a_class_without_images() -> None:
    without = Evaluation(PROBABILITIES[:5], SIX.targets[:5])
    assert without.macro()["recall"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_top_accuracy_counts_the_k_most_probable_classes() -> None:
    assert SIX.top_accuracy(1) == SIX.accuracy
    assert SIX.top_accuracy(2) == 1.0  # each wrong image has its class in second place
    assert Evaluation(PROBABILITIES[:1], torch.tensor([2])).top_accuracy(2) == 0.0
    assert SIX.top_accuracy(99) == 1.0


def test_evaluate_keeps_the_order_and_gives_probabilities() -> None:
    batches = [(torch.zeros(1, 3, 2, 2), torch.tensor([1])), (torch.ones(2, 3, 2, 2), torch.tensor([0, 1]))]
    found = evaluate(lambda images: torch.stack([images.mean((1, 2, 3)), torch.zeros(len(images))], 1), batches)
    assert found.targets.tolist() == [1, 0, 1]
    high = math.e / (1 + math.e)
    torch.testing.assert_close(found.probabilities, torch.tensor([[0.5, 0.5], [high, 1 - high], [high, 1 - high]]))


def test_expected_calibration_error_by_hand() -> None:
    # Confidences 0.75 (right), 0.75 (wrong), 1.0 (right), 0.25-bin empty: in two bins, all are in (0.5, 1].
    probabilities = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.0, 1.0], [0.5, 0.5]])
    targets = torch.tensor([0, 1, 1, 0])
    low, high = confidence_bins(probabilities, targets, bins=2)
    assert low == ConfidenceBin(0.0, 0.5, 1, 0.5, 1.0)  # a value on the edge belongs to the lower bin
    assert high == ConfidenceBin(0.5, 1.0, 3, pytest.approx(2.5 / 3), pytest.approx(2 / 3))
    assert expected_calibration_error([low, high]) == pytest.approx(1 / 4 * 0.5 + 3 / 4 * 0.5 / 3)


def test_a_network_that_is_as_right_as_it_says_has_no_calibration_error() -> None:
    probabilities = torch.tensor([[0.75, 0.25]] * 4)
    assert expected_calibration_error(confidence_bins(probabilities, torch.tensor([0, 0, 0, 1]))) == 0.0
    assert expected_calibration_error(confidence_bins(probabilities, torch.tensor([1, 1, 1, 1]))) == 0.75


def test_there_are_fifteen_bins_of_equal_width_and_empty_ones_say_so() -> None:
    bins = confidence_bins(PROBABILITIES, SIX.targets)
    assert [b.images for b in bins] == [0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 1, 0, 1, 0]
    assert bins[7].upper == bins[8].lower == 8 / 15
    assert bins[0].accuracy is None
    assert bins[0].mean_confidence is None
    # One image a bin but for (10/15, 11/15], which has a right 0.7 and a wrong one.
    by_hand = (0.5 + 0.6 + 2 * abs(0.5 - 0.7) + 0.2 + 0.9) / 6
    assert expected_calibration_error(bins) == pytest.approx(by_hand, rel=1e-6)


def test_the_most_confused_pairs_come_first() -> None:
    matrix = torch.tensor([[90, 3, 0], [3, 2, 1], [0, 4, 0]])
    assert confused_pairs(matrix) == [
        ConfusedPair(2, 1, 4, 1.0),
        ConfusedPair(1, 0, 3, 0.5),  # the same count as 0 -> 1, a larger share of its class
        ConfusedPair(0, 1, 3, 3 / 93),
        ConfusedPair(1, 2, 1, 1 / 6),
    ]
    assert len(confused_pairs(matrix, limit=2)) == 2
    assert confused_pairs(torch.eye(3, dtype=torch.int64)) == []


def test_the_worst_mistakes_are_the_surest_wrong_ones() -> None:
    found = worst_mistakes(SIX.probabilities, SIX.targets)
    assert [mistake.index for mistake in found] == [4, 5, 2]
    assert found[0] == Mistake(4, 1, 0, pytest.approx(0.9), pytest.approx(0.1))
    assert [mistake.index for mistake in worst_mistakes(SIX.probabilities, SIX.targets, limit=2)] == [4, 5]
    assert worst_mistakes(SIX.probabilities[:2], SIX.targets[:2]) == []
