"""Problems that a user can act on."""

from __future__ import annotations


class InsightError(Exception):
    """What was wrong, the value, and what to do; told in one line without a traceback."""
