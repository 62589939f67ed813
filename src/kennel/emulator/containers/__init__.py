"""A container that serves a model: starts it, asks it, and keeps its model data."""
