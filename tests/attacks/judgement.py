"""Whether what became of an attack is what its file says. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from cutor.model.events import Output, Stage
from cutor.model.result import Result
from tests.attacks.attack import DECIDING, Attack, generated


def expected(attack: Attack) -> str:
    """Return what must come of an attack in a few characters: the allowed outcomes of the stage that decides, with ``|``.

    Those of several test cases stand in their order, with ``→``. OK is followed by what proves that the attack was tried.
    """
    if attack.refused is not None:
        return "refused"
    return "|".join(dict.fromkeys(_expected(attack, outcome) for outcome in attack.outcome))


def _expected(attack: Attack, outcome: str) -> str:
    match DECIDING.get(outcome):
        case None:
            return outcome
        case "run":
            return f"OK {proof(attack)}".rstrip() if outcome == "OK" else sequence("|".join(case) for case in attack.cases)
        case stage:
            return f"{stage} {'|'.join(one for one in getattr(attack, stage) if one != 'OK')}"


def sequence(outcomes: Iterable[str]) -> str:
    """Return how the outcomes of test cases are shown, in their order."""
    return f"run {' → '.join(outcomes)}"


def proof(attack: Attack) -> str:
    """Return what an attack that ends with OK must show: without it, it could not be told from one that does nothing."""
    if words := (*attack.has, *attack.says):
        return ", ".join(json.dumps(word, ensure_ascii=False) for word in words)
    if attack.echo:
        return "and its input"
    if attack.printed_at_least:
        return f"and {attack.printed_at_least} bytes"
    outputs = [case["expected_output"] for case in attack.test_cases if "expected_output" in case]
    return "and its output" if any(outputs) else ""


def got(attack: Attack, result: Result) -> str:
    """Return what came of a submission, as `expected` would say it."""
    match DECIDING.get(result.outcome or ""):
        case None:
            return str(result.outcome)
        case "run" if result.outcome == "OK":
            return "OK" if list(_proofs_missing(attack, result)) else f"OK {proof(attack)}".rstrip()
        case "run":
            return sequence(stage.outcome for stage in result.run)
        case stage_name:
            return f"{stage_name} {'|'.join(stage.outcome for stage in _stages(result, stage_name))}"


def differences(attack: Attack, result: Result) -> list[str]:
    """Return every way in which a submission's result is not what the attack's file says, a line each."""
    found = list(_outcomes(attack, result))
    found += _endings(attack, result)
    found += _texts(attack, result)
    if attack.kill is None and max(result.attempts.builder, result.attempts.runner) > 1:
        found.append(f"a step was repeated: {result.attempts.builder} builders, {result.attempts.runner} runners took it")
    if result.cleaned_at is None:
        found.append("it was not cleaned")
    return found


def _outcomes(attack: Attack, result: Result) -> Iterator[str]:
    if result.outcome not in attack.outcome:
        yield f"outcome: {result.outcome} is not {'|'.join(attack.outcome)} ({result.message or _messages(result)})"
    for kind in ("dependencies", "compile"):
        allowed = getattr(attack, kind)
        for stage in _stages(result, kind):
            if stage.outcome not in allowed and not _follows(attack, stage, result):
                yield f"{kind}: {stage.outcome} is not {'|'.join(allowed)} ({_describe(stage)})"
    yield from _cases(attack, result)
    for outcome in attack.outcome:
        stage_name = DECIDING.get(outcome)
        if outcome == result.outcome and stage_name is not None and not _stages(result, stage_name):
            yield f"{stage_name}: the stage was not reached"


def _cases(attack: Attack, result: Result) -> Iterator[str]:
    """Yield what differs in the test cases, each judged by its place: none may be swapped, repeated or left out."""
    if DECIDING.get(result.outcome or "") == "run" and len(result.run) != len(attack.cases):
        yield f"{len(result.run)} test cases were reported, not {len(attack.cases)}"
    for place, (stage, allowed) in enumerate(zip(result.run, attack.cases, strict=False), 1):
        if stage.outcome not in allowed and not _follows(attack, stage, result):
            yield f"test case {place}: {stage.outcome} is not {'|'.join(allowed)} ({_describe(stage)})"


def _follows(attack: Attack, stage: Stage, result: Result) -> bool:
    """Return whether a stage is what it is because the submission ended elsewhere."""
    if stage.outcome == "SKIPPED":
        return attack.stop_on_failure or DECIDING.get(result.outcome or "") != "run"
    return stage.outcome == "CANCELLED" and result.outcome == "CANCELLED"


def _endings(attack: Attack, result: Result) -> Iterator[str]:
    for stage in ran(result):
        number = None if stage.signal is None else stage.signal.number
        if attack.exit_code is not None and stage.exit_code != attack.exit_code:
            yield f"exit code: {stage.exit_code} is not {attack.exit_code} ({_describe(stage)})"
        if attack.signal is not None and number != attack.signal:
            yield f"signal: {number} is not {attack.signal} ({_describe(stage)})"
        if attack.within_ms is not None and (stage.wall_time_ms or 0) > attack.within_ms:
            yield f"wall time: {stage.wall_time_ms} ms are more than {attack.within_ms} ms"
        if len(data(stage.stdout)) > stage.stdout.bytes_total:
            yield "stdout: more is kept than was printed"


def _texts(attack: Attack, result: Result) -> Iterator[str]:
    yield from _proofs_missing(attack, result)
    if attack.has and not ran(result) and set(attack.outcome) <= {"OK", "RUN_ERROR", "WRONG_ANSWER"}:
        yield "no test case was run"
    everything = "\n".join(_all_texts(result))
    yield from (f"an output holds {word!r}: {_around(everything, word)}" for word in attack.lacks if word in everything)


def _proofs_missing(attack: Attack, result: Result) -> Iterator[str]:
    for stage in ran(result):
        text = data(stage.stdout).decode(errors="replace")
        yield from (f"stdout lacks {wanted!r}: {_short(text)}" for wanted in attack.has if wanted not in text)
        if attack.echo and data(stage.stdout) != generated(attack.input_bytes).encode():
            yield f"stdout is not the input: {stage.stdout.bytes_total} bytes"
        if stage.stdout.bytes_total < attack.printed_at_least:
            yield f"printed: {stage.stdout.bytes_total} bytes are less than {attack.printed_at_least}"
    said = "\n".join([result.message or "", *_all_texts(result)])
    yield from (f"nothing says {wanted!r}: {_short(said)}" for wanted in attack.says if wanted not in said)


def repeated(attack: Attack, results: Sequence[Result]) -> list[str]:
    """Return the lines that submissions of a `fresh` attack have in common: one of them was answered with another's."""
    if not attack.fresh:
        return []
    said = [
        {line.strip() for line in "\n".join(_all_texts(result)).splitlines() if any(word in line for word in attack.says)}
        for result in results
    ]
    return [f"not fresh: {line}" for first, second in pairwise(said) for line in sorted(first & second)]


def ran(result: Result) -> list[Stage]:
    """Return the stages of the test cases that were run."""
    return [stage for stage in result.run if stage.outcome != "SKIPPED"]


def data(output: Output) -> bytes:
    """Return the bytes of an output that was kept."""
    return base64.b64decode(output.data) if output.encoding == "base64" else output.data.encode()


def _stages(result: Result, kind: str) -> Sequence[Stage]:
    if kind == "run":
        return ran(result)
    stage: Stage | None = getattr(result, kind)
    return [] if stage is None else [stage]


def _all_texts(result: Result) -> Iterator[str]:
    for kind in ("dependencies", "compile", "run"):
        for stage in _stages(result, kind):
            yield data(stage.stdout).decode(errors="replace")
            yield data(stage.stderr).decode(errors="replace")
            yield stage.message or ""


def _messages(result: Result) -> str:
    return "; ".join(_describe(stage) for kind in ("dependencies", "compile", "run") for stage in _stages(result, kind))


def _describe(stage: Stage) -> str:
    ending = f"exit code {stage.exit_code}" if stage.signal is None else stage.signal.name
    return f"{stage.outcome}, {ending}, {stage.message or _short(data(stage.stderr).decode(errors='replace'))}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 300 else f"{text[:150]} … {text[-150:]}")


def _around(text: str, word: str) -> str:
    place = text.index(word)
    return _short(text[max(place - 100, 0) : place + len(word) + 100])
