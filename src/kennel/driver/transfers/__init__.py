"""Brings data to where a job reads it."""
