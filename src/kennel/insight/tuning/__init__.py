"""What a tuning job found: which hyperparameters matter, and a page that shows it."""
