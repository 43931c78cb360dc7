"""Layer 1: modules that infer the middle level, and what is done to one."""
