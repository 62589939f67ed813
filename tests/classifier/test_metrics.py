import re

import botocore.session
import pytest
from botocore.validate import ParamValidator

from kennel.contract.metrics import METRICS, metric_definitions, metric_line

pytestmark = pytest.mark.pure


def read(line: str) -> dict[str, float]:
    found = {d["Name"]: re.search(d["Regex"], line) for d in metric_definitions()}
    return {name: float(match[1]) for name, match in found.items() if match}


def test_the_definitions_read_what_the_line_says() -> None:
    values = {name: 10.0**-index for index, name in enumerate(METRICS)}
    assert read(metric_line(values, epoch="1/3")) == pytest.approx(values)


def test_a_metric_is_not_read_from_inside_another_name() -> None:
    assert read("my_train_loss=1.0 train_loss_scaled=2.0") == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_not_read(value: float) -> None:
    assert read(metric_line({"train_loss": value, "train_accuracy": 0.5})) == {"train_accuracy": 0.5}


def test_an_unlisted_metric_cannot_be_printed() -> None:
    with pytest.raises(KeyError):
        metric_line({"accuracy": 1.0})


def test_sagemaker_accepts_the_definitions() -> None:
    model = botocore.session.get_session().get_service_model("sagemaker")
    report = ParamValidator().validate(metric_definitions(), model.shape_for("MetricDefinitionList"))
    assert not report.has_errors(), report.generate_report()
    assert all(len(d["Regex"]) <= 500 for d in metric_definitions())
