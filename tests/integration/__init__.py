"""The real parts, and cutor's processes as a user starts them."""
