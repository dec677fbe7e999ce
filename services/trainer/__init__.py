"""The next model from a corpus, as one gRPC service."""
