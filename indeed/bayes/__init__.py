"""Layer 0: the paper's mathematics as pure functions of tensors."""
