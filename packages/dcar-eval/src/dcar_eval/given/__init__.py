"""Images that are there already, anybody's: in folders, named by a table, or as batches."""
