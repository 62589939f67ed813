"""What the store holds of each kind of resource, and how it may change."""
