"""What a user would pick instead: classical decompositions and denoisers, behind one interface."""
