"""Numbers as people read them."""

from __future__ import annotations

import time

_BYTES = ("bytes", "kB", "MB", "GB", "TB")


def duration(seconds: float) -> str:
    """`840 ms`, `12.3 s`, `4 min 10 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ms(seconds: float) -> str:
    """Milliseconds with as many digits as say something."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def percent(share: float) -> str:
    """A share from 0 to 1."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"


def size(count: float) -> str:
    """`340 MB`, in powers of 1000."""
    value = float(count)
    for unit in _BYTES[:-1]:
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_BYTES[-1]}"


def quantity(value: float, unit: str) -> str:
    """A measured value with its unit."""
    if unit == "%":
        return f"{value:.0f} %"
    if unit == "bytes/s":
        return f"{size(value)}/s"
    return f"{value:,.0f} {unit}" if not unit.startswith("/") else f"{value:,.0f}{unit}"


def dollars(usd: float) -> str:
    """With as many digits as a small run needs."""
    return f"{usd:,.2f} USD" if usd >= 1 else f"{usd:.4f} USD"


def moment(seconds: float) -> str:
    """A time in UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
