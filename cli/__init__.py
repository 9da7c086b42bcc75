"""The `tollwatch` command."""
