"""The napari plugin (to come): translates between a viewer and the model."""
