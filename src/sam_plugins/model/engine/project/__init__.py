"""A project of the data engine: a folder of labels, and what people and models did with them.

:class:`~sam_plugins.model.engine.project.project.Project` is the way in; one module for each thing
that can be done with it.
"""
