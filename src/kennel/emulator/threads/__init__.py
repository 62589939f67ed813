"""Threads that belong to the server and end with it."""
