"""Runs training jobs: prepares inputs, starts hosts, watches them, and keeps what they leave."""
