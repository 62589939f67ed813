"""Runs hyperparameter tuning jobs: what to try next, and the trials."""
