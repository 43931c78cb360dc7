"""What can be measured of a training: gradients, speed, the roofline of a machine, how far data are apart."""
