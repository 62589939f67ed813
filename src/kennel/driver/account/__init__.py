"""What was spent, and what can be deleted."""
