"""Saves tensors while the training goes on, and starts the rules that read them."""
