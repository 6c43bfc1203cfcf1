"""Scenes rendered by us, in batches, from a seed."""
