"""The profiler report: what a run's timelines and system metrics say, and what to change."""
