"""How results show themselves in a notebook, and the colors of codes everywhere."""
