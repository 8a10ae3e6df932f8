"""A page for comparing pictures without and with SingDiffusion, and its HTTP API."""
