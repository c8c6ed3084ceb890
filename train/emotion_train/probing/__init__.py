"""The linear-probe protocol: frozen features, classifiers, metrics with intervals, calibration, reports."""
