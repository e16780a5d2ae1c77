"""From an image to an embedding, from prompts to masks, from masks to labels."""
