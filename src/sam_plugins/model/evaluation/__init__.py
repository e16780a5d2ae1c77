"""Metrics and the protocols that measure a model."""
