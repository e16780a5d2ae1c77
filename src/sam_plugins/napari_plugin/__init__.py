"""The napari plugin: translates between a viewer and the model."""
