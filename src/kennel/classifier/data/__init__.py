"""From a folder of photos to batches of tensors. folder, images, notes and transparency need Pillow only."""
