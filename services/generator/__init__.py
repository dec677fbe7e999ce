"""Text from a model, and a model's probabilities of text, as one gRPC service."""
