"""Programs that use Kennel as its users do."""
