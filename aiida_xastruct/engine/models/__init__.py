"""Networks, their ensembles, calibration and the baselines they are measured against."""
