"""The image classifier: what runs in both images, and on a laptop just the same."""
