"""Long evaluations: their folder, journal, shares of several processes, and results."""
