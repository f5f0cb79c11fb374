"""VMBus without Hyper-V: a daemon that plays the Hyper-V side for device hosts and guests on one machine."""

__version__ = "0.1.0"
