"""The network: its architecture, its precision, and the artifact that it becomes."""
