"""Starts and watches training and tuning jobs."""
