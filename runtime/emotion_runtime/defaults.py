"""Default values that the command line, the configuration file and the Python API share."""

SMOOTHING = 0.8  # time constant of the smoothing of a person's predictions, seconds
HYSTERESIS = 0.08  # probability margin by which another label must lead before the shown label changes
CLIP_SECONDS = 1.6  # time that the frames of a clip span, if the bundle does not state it

LOST_AFTER = 5.0  # seconds without an image
FROZEN_AFTER = 10.0  # seconds of the same image
