"""What outlives the server: the store of documents, the logs, the folders of a home."""
