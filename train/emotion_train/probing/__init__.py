"""The linear-probe protocol: frozen features, classifiers, figures with intervals, calibration, reports."""
