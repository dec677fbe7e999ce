"""Who may call what, and how much: tokens, identity providers, roles, limits, certificates. Knows no gRPC."""
