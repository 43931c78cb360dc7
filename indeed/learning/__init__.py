"""Layer 2: loops over batches; they never import data."""
