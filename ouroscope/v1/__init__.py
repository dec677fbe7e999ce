"""GENERATED from proto/ouroscope/v1 by `make proto`."""
