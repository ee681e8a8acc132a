"""Networks, and nothing else: transformer, residual head and its diffusion, text encoder.

They know no data, no training and no files.
"""
