"""Measures the machine and the training while it goes on."""
