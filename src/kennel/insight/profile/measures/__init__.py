"""What a profile says: steps, data loading, balance, use of the machine."""
