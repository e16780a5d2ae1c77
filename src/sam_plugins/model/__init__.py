"""One shared core: image, embedding, prompts, masks, labels."""
