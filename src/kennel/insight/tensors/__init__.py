"""Reads the tensors that a training has saved."""
