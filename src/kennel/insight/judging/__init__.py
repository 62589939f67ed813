"""Runs rules over the tensors of a training, while it goes on or afterwards."""
