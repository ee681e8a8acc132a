"""The strategies of the sampler: order of unmasking, guidance over the steps, token selection."""
