"""Layer 9: the command line. It loads neither torch nor Pyro before a command needs them."""

from .main import main
