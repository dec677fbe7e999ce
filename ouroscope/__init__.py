"""What the services share: records, errors, store, transport. Imports nothing from `services`."""

__version__ = "0.1.0"
