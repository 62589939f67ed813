"""Builds the requests of the SageMaker API, and checks them by botocore's model."""
