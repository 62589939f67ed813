"""Metrics: what a job prints, and what its host does."""
