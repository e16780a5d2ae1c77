"""The widgets of the plugin, one a file."""
