"""Fine-tuning as Jobs of Kubernetes: this process asks for a Job for each request and follows it."""
