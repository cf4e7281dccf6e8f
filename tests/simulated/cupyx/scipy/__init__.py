"""What of cupyx.scipy the library uses, simulated."""
