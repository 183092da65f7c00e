"""Adds up the numbers on standard input; with --product it multiplies them."""

import math
import sys

numbers = [int(word) for word in sys.stdin.read().split()]
print(math.prod(numbers) if "--product" in sys.argv[1:] else sum(numbers))
