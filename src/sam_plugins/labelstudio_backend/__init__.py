"""The Label Studio ML backend: translates between its requests and the model.

:func:`sam_plugins.labelstudio_backend.app.create_app` builds it.
"""
