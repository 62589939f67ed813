from datetime import date

import pytest

from kennel.driver.requests.service_model import service_model
from kennel.driver.session import prices
from kennel.driver.session.record import Entry

pytestmark = pytest.mark.pure


def test_the_table_says_when_where_and_whence() -> None:
    table = prices.table()
    assert date.fromisoformat(table["date"]) >= date(2026, 11, 1)
    assert "not fetched from AWS" in table["source"]
    assert all(price > 0 for price in table["instances"].values())


def test_every_priced_instance_can_train_and_serve() -> None:
    model = service_model("sagemaker")
    for shape in ("TrainingInstanceType", "ProductionVariantInstanceType"):
        assert set(prices.table()["instances"]) <= set(model.shape_for(shape).enum)


def test_an_estimate_is_called_one() -> None:
    text = str(prices.estimate("ml.g4dn.xlarge", 2, at_most_s=1800))
    assert text.startswith("estimate: 2 x ml.g4dn.xlarge: 1.472 USD an hour, 0.74 USD at most")
    assert "check the current price" in text


def test_an_unknown_instance_has_no_made_up_price() -> None:
    unknown = prices.estimate("ml.p5.48xlarge", 1)
    assert unknown.usd_per_hour is None
    assert "not in the price table" in str(unknown)


def entry(kind: str, on: str = "aws", deleted: float = 0.0, **details: object) -> Entry:
    return Entry(kind, "x", on, "r", "deleted" if deleted else "created", 1000.0, deleted, details=dict(details))


M5 = {"instance_type": "ml.m5.xlarge", "instance_count": 2}


@pytest.mark.parametrize(
    ("recorded", "usd", "remark"),
    [
        (entry("endpoint", deleted=4600.0, **M5), 0.46, ""),
        (entry("endpoint", **M5), 0.92, "running"),
        (entry("training-job", billable_s=1800, **M5), 0.23, ""),
        (entry("training-job", **M5), None, "duration not known yet"),
        (entry("training-job", on="local", billable_s=9, **M5), 0.0, "local"),
        (entry("endpoint", serverless=True), None, "serverless: by requests, see the console"),
        (entry("transform-job", billable_s=60, instance_type="ml.x"), None, "no price for ml.x"),
    ],
)
def test_costs_are_time_by_price(recorded: Entry, usd: float | None, remark: str) -> None:
    [cost] = prices.costs([recorded], now=8200.0)
    assert cost.usd == pytest.approx(usd)
    assert cost.remark == remark


def test_models_and_data_cost_nothing_by_the_hour() -> None:
    assert prices.costs([entry("model"), entry("data"), entry("endpoint-config")]) == []
