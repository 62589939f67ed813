"""Reads the files of a profile."""
