"""Prints 100 candidate programs, a JSON object a line: what two language models might answer to five problems, ten times each.

No model is asked: each candidate is put together here, of a right or a wrong answer and of what else goes wrong with generated
programs. The dice have a fixed seed, so that the lines are the same every time.
"""

import json
import random

ANSWERS = {  # problem: a right answer, a wrong one
    "digit-sum": ("print(sum(int(digit) for digit in input()))", "print(sum(range(len(input()))))"),
    "fibonacci": (
        "a, b = 0, 1\nfor _ in range(int(input())):\n    a, b = b, a + b\nprint(a)",
        "a, b = 1, 1\nfor _ in range(int(input())):\n    a, b = b, a + b\nprint(a)",
    ),
    "largest": ("print(max(int(word) for word in input().split()))", "print(max(input().split()))"),
    "reverse-words": ("print(*reversed(input().split()))", "print(input()[::-1])"),
    "vowels": (
        "print(sum(letter in 'aeiou' for letter in input().lower()))",
        "print(sum(letter in 'aeiou' for letter in input()))",
    ),
}
SLOW = "import time\nwhile time.process_time() < 1.5:\n    pass\n"
"""In place of a bad algorithm: it takes 1.5 s of CPU time on any machine."""

KINDS = ("right", "wrong", "crash", "slow", "endless", "loud")
MODELS = {"brook": (45, 20, 10, 12, 6, 7), "river": (70, 10, 5, 10, 3, 2)}  # how likely each kind is, in percent
SAMPLES = 10


def program(problem: str, kind: str) -> str:
    """Return the source of a candidate."""
    right, wrong = ANSWERS[problem]
    return {
        "right": right,
        "wrong": wrong,
        "crash": "words = input().split()\nprint(words[99])",
        "slow": SLOW + right,
        "endless": "while True:\n    pass",
        "loud": "while True:\n    print('Let me think about this step by step.')",
    }[kind]


def candidates() -> list[tuple[str, str, int, str]]:
    """Return model, problem, sample and kind of every candidate."""
    dice = random.Random(2026)
    return [
        (model, problem, sample, dice.choices(KINDS, weights)[0])
        for model, weights in MODELS.items()
        for problem in ANSWERS
        for sample in range(SAMPLES)
    ]


if __name__ == "__main__":
    for model, problem, sample, kind in candidates():
        print(json.dumps({"model": model, "problem": problem, "sample": sample, "program": program(problem, kind)}))
