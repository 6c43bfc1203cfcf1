"""What a global workspace joins: one file per domain, each with `encode`, `decode` and `latent_loss`."""
