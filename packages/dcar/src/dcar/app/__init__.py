"""`dcar app`: the generator and its tokenizer in a browser, on this machine (extra `app`)."""
