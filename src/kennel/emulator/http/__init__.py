"""The server's HTTP: signatures, limits, and AWS's wire formats."""
