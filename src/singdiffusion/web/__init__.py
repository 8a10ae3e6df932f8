"""The page on which people compare, and its HTTP API."""
