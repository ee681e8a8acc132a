"""What all trainers share: the run folder, the log, ranks, and Hydra's errors in a line."""
