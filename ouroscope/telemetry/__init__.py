"""What a process tells about itself: logs and service metrics. Knows neither gRPC nor the domain."""
