"""One use of Kennel: the project file, the home, the clients, and the local SageMaker that is up."""
