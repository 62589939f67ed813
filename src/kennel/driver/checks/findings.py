"""What checks found: each line ok, a warning or a failure, with what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kennel.driver.errors import DriverError

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    level: str  # ok, warn or fail
    subject: str
    text: str
    hint: str = ""


def require(findings: Iterable[Finding]) -> None:
    """Stop at what failed.

    Raises:
        DriverError: with everything that failed.
    """
    failed = [finding for finding in findings if finding.level == FAIL]
    if failed:
        raise DriverError(
            "\n".join(f"{f.subject}: {f.text}" for f in failed), " ".join(f.hint for f in failed if f.hint)
        )
