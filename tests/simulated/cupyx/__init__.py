"""What of cupyx the library uses, simulated."""
