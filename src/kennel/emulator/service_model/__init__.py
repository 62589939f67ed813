"""botocore's model of the services: what a request may hold, and what of it has an effect here."""
