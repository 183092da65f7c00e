"""The checks of ``cutor doctor`` on limits that work but are unwise: on this machine, or beside each other.

What cannot work at all is refused by `cutor.config`. Why each of these matters: ``docs/explanation/limits.md``.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from cutor.cli.checks.findings import Finding, ok, warn
from cutor.cli.limits_table import ShownLimits
from cutor.config import Config
from cutor.containers.host_config import Resources
from cutor.model.limits import GIB, STAGE_KINDS, LimitPolicies, of_stage
from cutor.model.units import counted, size, span

WALL_FACTOR: Final = 2
"""How much longer than its CPU time on CPUs of its own a stage may take by default: room for half of a CPU, and for waiting."""


class Machine(NamedTuple):
    """What a machine has to run stages with."""

    cpus: int
    memory_bytes: int


def this_machine() -> Machine:
    """Return what this machine has: the CPUs that this process may use, and all of its memory."""
    return Machine(len(os.sched_getaffinity(0)), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def check_limits(shown: ShownLimits, config: Config, machine: Machine) -> list[Finding]:
    """Return what there is to say of limits and bounds that hold, with the slots of a configuration, on a machine."""
    return [
        check_wall_time(shown.stages, build_cpus=config.nix.cores),
        check_submission_time(shown),
        check_slots(config.runner.slots, machine),
        check_memory(shown.stages, config, machine),
        check_largest_memory(shown.stages, machine),
    ]


def check_wall_time(stages: LimitPolicies, *, build_cpus: int) -> Finding:
    """Check that a stage which may use its CPU time has the wall time for it, also where it has to share a CPU."""
    short: list[tuple[str, int]] = []
    for kind in STAGE_KINDS:
        limit = of_stage(stages, kind).default
        needed_ms = int(WALL_FACTOR * limit.cpu_time_ms / (build_cpus if kind == "dependencies" else Resources.cpus))
        if limit.wall_time_ms < needed_ms:
            said = f"limits.{kind}.default.wall_time_ms is {span(limit.wall_time_ms)} for {span(limit.cpu_time_ms)} of CPU time"
            short.append((said, needed_ms))
    if short:
        wanted = " and ".join(span(needed_ms) for _, needed_ms in short)
        remedy = f"make it {wanted} at least, or the CPU time less: what waits for a CPU would end as TLE_WALL"
        return warn("wall time", "; ".join(said for said, _ in short), remedy)
    return ok("wall time", f"default wall times have room for {WALL_FACTOR} times the default CPU times")


def check_submission_time(shown: ShownLimits) -> Finding:
    """Check that a submission may take as long as its compile stage and one run together."""
    bound_ms = shown.bounds.submission_wall_time_ms
    stages_ms = shown.stages.compile.default.wall_time_ms + shown.stages.run.default.wall_time_ms
    if bound_ms < stages_ms:
        detail = (
            f"bounds.submission_wall_time_ms is {span(bound_ms)}, default wall times of compile and run are {span(stages_ms)}"
        )
        return warn("submission", detail, "raise it, or lower those: it ends submissions whose stages keep to their limits")
    return ok("submission", f"compile and runs have {span(bound_ms)} together")


def check_slots(slots: int, machine: Machine) -> Finding:
    """Check that every runner slot has a CPU."""
    detail = f"runner.slots is {slots}, this machine has {counted(machine.cpus, 'CPU')}"
    if slots > machine.cpus:
        return warn("slots", detail, "lower it to that, or runs share CPUs and take longer than they need")
    return ok("slots", detail)


def check_memory(stages: LimitPolicies, config: Config, machine: Machine) -> Finding:
    """Check that stages in all slots, each at its default memory limit, fit into the machine."""
    run_bytes = max(stages.compile.default.memory_bytes, stages.run.default.memory_bytes)
    build_bytes = stages.dependencies.default.memory_bytes
    needed_bytes = config.runner.slots * run_bytes + config.builder.slots * build_bytes
    detail = (
        f"stages in all slots need {size(needed_bytes)} by default limits (compile or run {size(run_bytes)}, "
        f"build {size(build_bytes)} each), this machine has {_gib(machine)}"
    )
    if needed_bytes > machine.memory_bytes:
        return warn(
            "memory",
            detail,
            "lower runner.slots, builder.slots or default memory_bytes, or the machine runs out of memory before a stage does",
        )
    return ok("memory", detail)


def check_largest_memory(stages: LimitPolicies, machine: Machine) -> Finding:
    """Check that no request may ask for more memory than there is."""
    over = [
        f"limits.{kind}.maximum.memory_bytes is {size(maximum)}"
        for kind in STAGE_KINDS
        if (maximum := of_stage(stages, kind).maximum.memory_bytes) > machine.memory_bytes
    ]
    if over:
        detail = f"{', '.join(over)}; this machine has {_gib(machine)}"
        return warn("largest memory", detail, "lower it: a request could ask for more than there is")
    return ok("largest memory", "no request may ask for more than this machine has")


def _gib(machine: Machine) -> str:
    return f"{machine.memory_bytes / GIB:.1f} GiB"
