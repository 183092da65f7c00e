"""The fault harness: processes killed at named points, and what must hold afterwards."""
