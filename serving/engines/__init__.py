"""What computes the forward pass, and the proof that it answers as torch in float32 does."""
