"""From predictions to numbers: metrics, calibration, intervals, averages, comparisons; no torch."""
