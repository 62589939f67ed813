"""Deploys models, asks endpoints, and runs batch transform jobs."""
