"""Learning-rate schedules that are learned, searched or probed, behind one protocol."""

__version__ = "0.1.0"
