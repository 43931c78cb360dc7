"""Active generalisation: the network goes on learning on the images it is applied to (section 3.5.2)."""
