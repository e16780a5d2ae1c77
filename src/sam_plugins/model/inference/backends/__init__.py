"""Other ways to run an image encoder: exported networks and compiled ones, tried before use."""
