"""The training: channels in, epochs, checkpoints, metrics out."""
