"""The HTTP routes: one file a family."""
