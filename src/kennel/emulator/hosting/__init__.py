"""Endpoints: their instances, and the way of an invocation to one of them."""
