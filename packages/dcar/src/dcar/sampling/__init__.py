"""What the sampler can be told: order of unmasking, guidance over the steps, token selection."""
