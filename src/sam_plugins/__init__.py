"""Promptable segmentation where people already label images."""
