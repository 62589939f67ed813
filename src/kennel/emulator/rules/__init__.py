"""Runs the debugger's and profiler's rules of a training job."""
