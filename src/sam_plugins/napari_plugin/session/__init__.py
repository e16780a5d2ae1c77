"""What a person does to one image: prompts, masks, objects, and the way back; no window in it."""
