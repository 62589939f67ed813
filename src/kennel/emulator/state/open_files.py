"""How many files this process may have open: a server needs more than a shell gives it, and its children do not."""

from __future__ import annotations

import resource

_WANTED = 10_240  # for some thousand jobs; macOS allows no more, whatever its hard limit says
_before: list[int] = []  # the limit with which the process was started


def raise_limit() -> None:
    """Raise the soft limit, as far as the hard one lets it; once, before anything is started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    _before[:] = [soft]
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # a system with a bound of its own: what was there has to do
        return


def inherited() -> int:
    """The soft limit of what is started: that with which this process was started.

    A program that uses select() fails with file numbers above 1023, and containers have limits of their own.
    """
    return _before[0] if _before else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
