"""Losses, simulated prompts, data and the trainer."""
