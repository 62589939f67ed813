"""Runs in the serve image: the handler and the HTTP front before it."""
