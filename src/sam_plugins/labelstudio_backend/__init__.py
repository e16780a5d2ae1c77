"""The Label Studio ML backend (to come): translates between its requests and the model."""
