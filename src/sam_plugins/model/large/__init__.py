"""Pictures of any size: read in windows, segmented by tiles, joined, and written in chunks."""
