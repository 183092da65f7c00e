"""What the process of a role has, whichever role it is: its context, what it measures, and how it tells of that."""
