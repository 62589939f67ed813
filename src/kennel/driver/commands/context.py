"""What every command works with, and what it gives back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kennel.driver.errors import DriverError
from kennel.driver.requests.training import Machines, Request
from kennel.driver.session import prices
from kennel.driver.session.session import Session


@dataclass(frozen=True)
class Result:
    """What a command found: for people, for programs, and for the shell."""

    text: str
    data: Any
    code: int = 0


@dataclass(frozen=True)
class Context:
    """What a command works with."""

    arguments: argparse.Namespace
    session: Session
    out: Callable[[str], None]  # for results that come line by line


def assignments(texts: Sequence[str], flag: str, value_name: str = "VALUE") -> dict[str, str]:
    """`NAME=VALUE` words as a mapping.

    Raises:
        DriverError: a word without a name or an equals sign.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DriverError(f"{flag} is '{text}'.", f"Write {flag} NAME={value_name}.")
        values[name] = value
    return values


def dry_run(
    context: Context, steps: Sequence[tuple[str, Request]], machines: Machines | None, *, at_most_s: float | None = None
) -> Result:
    """The requests as they would be sent; the price goes to stderr, so that stdout can be sent by another client."""
    session = context.session
    price = None
    if machines and not session.is_local:
        price = prices.estimate(machines.instance_type, machines.instance_count, at_most_s=at_most_s)
        session.reporter.say(str(price))
    shown: Any = steps[0][1] if len(steps) == 1 else [{"operation": name, "request": body} for name, body in steps]
    data = {
        "requests": [{"operation": name, "request": body} for name, body in steps],
        "price": price.to_json() if price else None,
    }
    return Result(json.dumps(shown, indent=2, ensure_ascii=False), data)


def tell_price(session: Session, machines: Machines, *, at_most_s: float | None = None) -> None:
    """Say what AWS will cost, before anything is created."""
    if not session.is_local:
        estimate = prices.estimate(machines.instance_type, machines.instance_count, at_most_s=at_most_s)
        session.reporter.say(str(estimate))
