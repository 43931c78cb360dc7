"""Training of a network: what is asked of it (config, task), one step, and the run (trainer, log, samples)."""
