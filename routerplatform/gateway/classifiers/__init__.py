"""Plug-ins that say what kind of work a prompt is, in place of the built-in classifier."""
