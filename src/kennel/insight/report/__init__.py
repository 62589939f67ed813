"""A report's parts, and the two that render them: HTML and PDF."""
