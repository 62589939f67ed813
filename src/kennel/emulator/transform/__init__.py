"""Runs batch transform jobs."""
