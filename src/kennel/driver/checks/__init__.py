"""Looks for faults before anything is paid for: the data, this machine, the AWS account."""
