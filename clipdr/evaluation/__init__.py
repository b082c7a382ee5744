"""From predictions to numbers: metrics, calibration, intervals, averages and comparisons. Imports no torch and draws nothing."""
