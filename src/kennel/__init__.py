"""Train, tune, debug, profile and serve image classifiers in your own containers."""

__version__ = "0.1.0"
