"""What something may cost: estimates from a dated table, never an invoice."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from kennel.driver.session.project import AWS
from kennel.driver.session.record import CREATED, Entry

_HOUR_S = 3600
PAID_KINDS = ("training-job", "tuning-job", "transform-job", "endpoint")


@dataclass(frozen=True)
class Estimate:
    """A price, or why there is none."""

    instance_type: str
    instance_count: int
    usd_per_hour: float | None  # of all instances; None: not in the table
    at_most_usd: float | None = None  # where there is a limit of time

    def __str__(self) -> str:
        """As a person reads it, always with the date and the advice to look it up."""
        what = f"{self.instance_count} x {self.instance_type}"
        if self.usd_per_hour is None:
            return f"{what}: not in the price table of {table()['date']}; check the current price"
        limit = f", {self.at_most_usd:.2f} USD at most" if self.at_most_usd is not None else ""
        return (
            f"estimate: {what}: {self.usd_per_hour:.3f} USD an hour{limit} "
            f"(on demand, {table()['region']}, table of {table()['date']}; check the current price)"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, with where they come from."""
        return {
            "estimate": True,
            "instance_type": self.instance_type,
            "instance_count": self.instance_count,
            "usd_per_hour": self.usd_per_hour,
            "at_most_usd": self.at_most_usd,
            "price_table": {"date": table()["date"], "region": table()["region"], "source": table()["source"]},
        }


@functools.cache
def table() -> dict[str, Any]:
    """The price table, with its date and its source."""
    text = resources.files("kennel.driver.session").joinpath("prices.json").read_text(encoding="utf-8")
    values: dict[str, Any] = json.loads(text)
    return values


def estimate(instance_type: str, instance_count: int, *, at_most_s: float | None = None) -> Estimate:
    """What instances cost on demand.

    Args:
        instance_type: such as ml.g4dn.xlarge.
        instance_count: how many.
        at_most_s: the limit of time, if there is one.
    """
    price = table()["instances"].get(instance_type)
    hourly = None if price is None else price * instance_count
    most = None if hourly is None or at_most_s is None else hourly * at_most_s / _HOUR_S
    return Estimate(instance_type, instance_count, hourly, most)


@dataclass(frozen=True)
class Cost:
    """What a recorded resource has cost so far, as an estimate."""

    entry: Entry
    seconds: float | None  # None: not known here
    usd: float | None
    remark: str = ""


def costs(entries: Iterable[Entry], now: float | None = None) -> list[Cost]:
    """The cost of everything recorded that is paid by time. What runs on the local SageMaker costs nothing."""
    moment = time.time() if now is None else now
    return [_cost(entry, moment) for entry in entries if entry.kind in PAID_KINDS]


def _cost(entry: Entry, now: float) -> Cost:
    if entry.on != AWS:
        return Cost(entry, entry.details.get("billable_s"), 0.0, "local")
    if entry.details.get("serverless"):
        return Cost(entry, None, None, "serverless: by requests, see the console")
    if entry.kind == "endpoint":
        seconds: float | None = (entry.deleted or now) - entry.created
        remark = "" if entry.deleted else "running"
    else:
        seconds = entry.details.get("billable_s")
        remark = "" if seconds is not None else "duration not known yet"
    if seconds is None or entry.state not in (CREATED, "deleted"):
        return Cost(entry, seconds, None, remark or "not confirmed by AWS")
    hourly = estimate(entry.details.get("instance_type", "?"), entry.details.get("instance_count", 1)).usd_per_hour
    if hourly is None:
        return Cost(entry, seconds, None, f"no price for {entry.details.get('instance_type', '?')}")
    return Cost(entry, seconds, hourly * seconds / _HOUR_S, remark)
