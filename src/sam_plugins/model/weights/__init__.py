"""From a model's name to its weights: registry, download, reading, passports."""
