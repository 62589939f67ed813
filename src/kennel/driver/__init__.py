"""Your machine: the `kennel` command, and the same functions for notebooks."""
