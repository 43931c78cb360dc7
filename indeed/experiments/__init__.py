"""Layer 4: one module per table, figure or shipped model: a profile in, a record out."""
