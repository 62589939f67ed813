"""The two fronts behind which a model computes: threads of this process, or multi-model-server."""
