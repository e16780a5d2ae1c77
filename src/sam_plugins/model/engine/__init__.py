"""The data engine: people and the model label together (to come)."""
