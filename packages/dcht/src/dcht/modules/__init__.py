"""Networks, and nothing else: layers, encoder and decoder, the quantizer, large images in tiles.

They know no data, no training and no files.
"""
