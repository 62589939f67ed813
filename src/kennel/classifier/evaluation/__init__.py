"""How good the trained network is: accuracy, calibration, mistakes, and the report of the training."""
