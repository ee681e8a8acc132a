"""Checkpoints: ours, and the published release's in our layout."""
