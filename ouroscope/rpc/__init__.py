"""How the services speak gRPC: servers, channels, and errors on the wire. Knows no domain."""
