"""Tables: one module for each, all on the one program, a profile in, a record out."""
