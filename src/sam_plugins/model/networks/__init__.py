"""What is learned: encoders, prompt encoder, decoders, and the numbers that define them."""
