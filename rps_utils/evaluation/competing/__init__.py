"""Absolute risk of recurrence where some patients die without it: AUC, Brier score, calibration, net benefit."""
