"""Images and labels: reading, and writing without half files."""
