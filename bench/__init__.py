"""Measurements behind the numbers that the documentation publishes; each module is a command."""
