"""From messages to rows: bodies into columns for many events, and `evolve` for few."""
