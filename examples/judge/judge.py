"""A small online judge. `judge.py USER/PROBLEM.LANGUAGE...` judges solutions, `judge.py` prints the ranking."""

import asyncio
import sys
from base64 import b64encode
from pathlib import Path

import cutor

SHELL = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.%s ]; }"
LANGUAGES = {  # by the end of the file's name: package, scripts
    ".py": ("python3", {"cutor-run.sh": "exec python3 solution.py"}),
    ".c": ("gcc", {"cutor-compile.sh": "exec gcc -O2 -o solution solution.c", "cutor-run.sh": "exec ./solution"}),
}
LIMITS = {"run": {"cpu_time_ms": 1000, "wall_time_ms": 60000}}
VERDICTS = {"OK": "AC", "WA": "WA", "TLE_CPU": "TLE", "TLE_WALL": "TLE"}  # any other outcome is RE
RANKING = """SELECT labels['user'] AS who, count(DISTINCT labels['problem']) FILTER (outcome = 'OK') AS solved,
             count(*) AS tries FROM submissions WHERE labels['judge'] = $judge GROUP BY who ORDER BY solved DESC, tries, who"""
PLACES = asyncio.Semaphore(16)  # so many solutions are on their way at one time


def request(solution: Path) -> dict:
    package, scripts = LANGUAGES[solution.suffix]
    files = [{"name": name, "content": text} for name, text in {"shell.nix": SHELL % package, **scripts}.items()]
    source = b64encode(solution.read_bytes()).decode()
    files.append({"name": f"solution{solution.suffix}", "content": source, "encoding": "base64"})
    inputs = sorted((Path(__file__).parent / "problems" / solution.stem).glob("*.in"))
    cases = [{"input": one.read_text(), "expected_output": one.with_suffix(".out").read_text()} for one in inputs]
    labels = {"judge": "small", "user": solution.parent.name, "problem": solution.stem}
    return {"files": files, "test_cases": cases, "stop_on_failure": False, "limits": LIMITS, "labels": labels}


async def judge(client: cutor.Client, solution: Path) -> str:
    async with PLACES:
        receipt = await client.submit(request(solution))
        result = await client.result(receipt.id, wait=True)
    verdicts = ["CE"] if result.outcome == "COMPILE_ERROR" else [VERDICTS.get(stage.outcome, "RE") for stage in result.run]
    return f"{solution.parent.name:<10}{solution.name:<16}{' '.join(verdicts) or result.outcome}"


async def main(solutions: list[Path]) -> None:
    async with cutor.Client() as client:
        if solutions:
            print(*await asyncio.gather(*(judge(client, one) for one in solutions)), sep="\n")
        else:
            table = await client.query(RANKING, {"judge": "small"})
            print(*(f"{who:<10}{solved} solved, {tries} tries" for who, solved, tries in table.rows), sep="\n")


asyncio.run(main([Path(name) for name in sys.argv[1:]]))
