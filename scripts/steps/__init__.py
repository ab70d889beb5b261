"""The steps of `scripts/recipe`, a module for each kind."""
