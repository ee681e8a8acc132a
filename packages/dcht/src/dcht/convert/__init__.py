"""Checkpoints of others, in our layout: DC-AE's and the published release's."""
