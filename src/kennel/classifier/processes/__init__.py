"""The processes of a job: hosts, workers, signals, and a program of the user's own."""
