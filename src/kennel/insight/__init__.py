"""Reads what a run left: debugger rules, profiler reports."""
