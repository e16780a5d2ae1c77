"""The tasks of ``sam-plugins evaluate``: each asks a model in its way and says what came of it."""
