"""Images as people have them: folders, tars, zips and lists, with captions; read with limits."""
