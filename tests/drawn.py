"""Policies, scenarios and parameters drawn from a seed, for comparing two explorers.

Everything drawn is valid: the engine accepts the program, ``Litmus`` the scenario, and neither
explorer refuses it. The drawing leans towards what policies do (store, order, mark, fence; test,
clear, fence, retry), so that many cases are refuted late and many are verified.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pysim import litmus, ops
from pysim.litmus import Litmus, Parameters
from pysim.ops import ALL, PAGE, RANGE, Mark

EXTENTS = (ALL, PAGE, RANGE)
MARKS = ("m", "n")


@dataclass(frozen=True)
class Drawn:
    """A policy whose handlers were drawn; answers to the engine's handler names only."""

    name: str
    drawn: dict[str, list[Any]] = field(hash=False)
    marks: tuple[Mark, ...] = tuple(Mark(name) for name in MARKS)

    def __getattr__(self, name: str) -> Callable[[], list[Any]]:
        drawn = self.__dict__.get("drawn", {})
        if name not in drawn:
            raise AttributeError(name)
        return lambda: drawn[name]


def chance(rng: random.Random, percent: int) -> bool:
    return rng.randrange(100) < percent


def which_mark(rng: random.Random) -> str:
    return MARKS[chance(rng, 10)]


def drawn_fence(rng: random.Random) -> Any:
    extent = rng.choice((ALL, ALL, PAGE, RANGE))
    return ops.fence(extent, threshold_pages=rng.choice((64, 64, 1, 0)), by_asid=chance(rng, 5))


def drawn_shootdown(rng: random.Random) -> Any:
    return ops.shootdown(
        rng.choice((ALL, RANGE, RANGE, PAGE)),
        who=rng.choice(("online", "online", "others", "all", "mm_mask", "own")),
        via=rng.choice(("machine", "machine", "machine", "sbi", "imsic", "hw")),
        threshold_pages=rng.choice((64, 1)),
        by_asid=chance(rng, 5),
    )


def drawn_barrier(rng: random.Random) -> Any:
    return ops.store_barrier(rng.choice(("w_w", "w_w", "rw_rw", "complete")))


def drawn_mark(rng: random.Random) -> Any:
    who = rng.choice(("all", "all", "all", "own", "others", "first_n", "online"))
    return ops.mark(which_mark(rng), who, n=rng.choice((1, 32, 33, 64)) if who == "first_n" else 0)


def drawn_clear(rng: random.Random) -> Any:
    return ops.clear_mark(which_mark(rng), amo=chance(rng, 75), width=rng.choice((64, 64, 64, 32)),
                          who=rng.choice(("own", "own", "own", "own", "all", "others")))


def drawn_condition(rng: random.Random) -> ops.Condition:
    atoms = [ops.marked(which_mark(rng)), ops.PTE_VALID_NOW, ops.TRANSLATES_NOW, ops.IRQS_ON,
             ops.SSCRATCH_ZERO, ops.PAGE_FAULT, ops.PAGE_FAULT_STORE, ops.PAGE_FAULT_LOAD,
             ops.KERNEL_ADDRESS, ops.SVVPTC, ops.REGION_VMALLOC, ops.ONE_HART, ops.pages_le(1),
             ops.INTERRUPT, ops.USER_MODE, ops.SBI_FENCES, ops.RUNNING, ops.SVINVAL]
    condition = rng.choice(atoms)
    if chance(rng, 30):
        condition = ~condition
    if chance(rng, 25):
        other = rng.choice(atoms)
        condition = condition & other if chance(rng, 60) else condition | other
    return condition


def drawn_any(rng: random.Random, depth: int = 0) -> Any:
    """One step of any kind that neither explorer refuses without an object page."""
    kind = rng.randrange(14)
    makers: list[Callable[[random.Random], Any]] = [
        drawn_fence, drawn_shootdown, drawn_barrier, drawn_mark, drawn_clear]
    if kind < 8:
        return makers[kind % len(makers)](rng)
    if kind == 8:
        return ops.touch_stack(rng.choice(("current", "next")), page=rng.randrange(2))
    if kind == 9:
        return rng.choice((ops.defer(rng.choice(EXTENTS), who=rng.choice(("all", "others", "own"))),
                           ops.flush_deferred()))
    if kind == 10:
        return rng.choice((ops.sync_context(), ops.spend(3, loads=1),
                           ops.spend(1, stores=1, each_page=True), ops.sync_root(), ops.ack()))
    if kind == 11:
        return rng.choice((ops.retry(), ops.fall_through(), ops.fail()))
    if kind == 12:
        return ops.store_ptes(valid=chance(rng, 80))
    if depth > 1:
        return ops.publish()
    body = [drawn_any(rng, depth + 1) for _ in range(rng.randrange(3))]
    other = [drawn_any(rng, depth + 1)] if chance(rng, 30) else []
    return ops.when(drawn_condition(rng), body, other)


def some(rng: random.Random, steps: list[Any], noise: int) -> list[Any]:
    """The steps, each perhaps left out, two perhaps exchanged, others perhaps put between."""
    kept = [step for step in steps if not chance(rng, noise)]
    if len(kept) > 1 and chance(rng, noise):
        i = rng.randrange(len(kept) - 1)
        kept[i], kept[i + 1] = kept[i + 1], kept[i]
    while chance(rng, noise):
        kept.insert(rng.randrange(len(kept) + 1), drawn_any(rng))
    return kept


def policy(rng: random.Random, *, name: str = "drawn", objects: bool = False) -> Drawn:
    """Draw a policy; with ``objects`` it may allocate and touch an object page."""
    noise = rng.choice((3, 10, 25))
    style = rng.choice(("mark", "mark", "preventive", "lazy"))
    resolve = [drawn_clear(rng) if chance(rng, 20) else ops.clear_mark("m"), ops.fence(ALL),
               ops.retry()]
    handlers: dict[str, list[Any]] = {}
    mapping = {
        "mark": [ops.store_ptes(valid=True), ops.store_barrier("w_w"), ops.mark("m")],
        "preventive": [ops.store_ptes(valid=True), ops.store_barrier("rw_rw"),
                       drawn_shootdown(rng)],
        "lazy": [ops.store_ptes(valid=True)],
    }[style]
    handlers["map_kernel"] = some(rng, mapping, noise)
    if style == "mark" or chance(rng, 20):
        condition = ops.PAGE_FAULT & ops.KERNEL_ADDRESS & ops.marked(which_mark(rng))
        if chance(rng, 85):
            condition &= ops.SSCRATCH_ZERO
        handlers["early_trap"] = some(
            rng, [ops.when(condition, some(rng, resolve, noise)), ops.fall_through()], noise)
    if style == "lazy" or chance(rng, 40):
        inner = [ops.when(ops.PTE_VALID_NOW, [drawn_fence(rng), ops.retry()]), ops.fail()]
        handlers["kernel_fault"] = some(rng, inner, noise)
    handlers["unmap_kernel"] = some(rng, [ops.store_ptes(valid=False)], noise)
    handlers["purge_kernel"] = some(rng, [ops.store_barrier("rw_rw"), drawn_shootdown(rng)], noise)
    if chance(rng, 90):
        handlers["ipi"] = some(rng, [drawn_fence(rng)], noise)
    if chance(rng, 30):
        check = ops.when(ops.marked("m"), [ops.clear_mark("m"), ops.fence(ALL)])
        handlers["switch_task"] = some(rng, [check], noise)
    if objects and chance(rng, 50):
        where = rng.choice([key for key in ("purge_kernel", "ipi", "kernel_fault", "switch_task",
                                            "map_kernel") if key in handlers])
        handlers[where].insert(0, ops.allocate())
        if chance(rng, 70):
            handlers[where].insert(1, ops.touch())
    return Drawn(name, handlers)


def scenario(rng: random.Random, *, harts: int | None = None) -> Litmus:
    """Draw a scenario: one of the table for two (rarely three) harts, or scripts of its own."""
    if chance(rng, 60):
        name = rng.choice(litmus.names())
        few = name in ("map1", "wild", "nl", "kstack", "trace")
        return litmus.find(name, harts=harts or (3 if few and chance(rng, 30) else 2))
    pages = rng.choice((1, 1, 2))
    stack = chance(rng, 40)
    number = harts or 2
    scripts = [[f"map {p}" + " masked" * chance(rng, 5) for p in range(pages)]]
    if chance(rng, 30):
        scripts[0] += ["unmap 0", rng.choice(("purge 0", "flush 0", f"purge 0 {pages}"))]
        if chance(rng, 60):
            scripts[0].append(f"map 0 frame {rng.choice((1, 2))}")
    if chance(rng, 30):
        scripts[0].append("access 0")
    scripts += [_reader(rng, pages, stack=stack) for _ in range(number - 1)]
    where = f"drawn {rng.randrange(10**6)}"
    return Litmus(
        name=where, question="drawn", pages=pages,
        scripts=tuple(litmus.script(*texts, where=where) for texts in scripts),
        table=tuple(p for p in range(pages) if chance(rng, 70)) if chance(rng, 25) else (),
        region=rng.choice(litmus.REGIONS) if chance(rng, 10) else "vmalloc",
        stack_pages=rng.randint(1, pages) if stack else 0, frame=1 if stack else 0,
    )


def _reader(rng: random.Random, pages: int, *, stack: bool) -> list[str]:
    texts = []
    if chance(rng, 25):
        texts.append(f"probe {rng.randrange(pages)}")
    if chance(rng, 90):
        texts.append("wait 0")
    if stack:
        texts.append("switch")
    page, last = rng.randrange(pages), pages - 1
    actions = [f"access {page}", "access 0", "interrupt", "trace 0", f"wait {last}"]
    texts += rng.choices([*actions, f"probe {last}"], k=rng.randint(1, 3))
    if chance(rng, 20):
        texts.append("user")
        if chance(rng, 60):
            texts += ["trap", "access 0"]
    return texts


def parameters(rng: random.Random, *, single: bool = False) -> Parameters:
    """Draw parameters; limits are low so that livelocks and nests are short."""
    return Parameters(
        order=rng.choice(("pso", "pso", "tso", "sc")),
        invalid=rng.choice(("cache", "cache", "cache", "reorder", "none")),
        nonleaf=chance(rng, 80),
        tlb="single" if single else "maximal",
        svvptc=chance(rng, 30),
        svvptc_k=rng.choice((None, None, 0, 1, 2)),
        via=rng.choice(("imsic", "imsic", "sbi", "hw")),
        sbi_limit_pages=rng.choice((0, 1, 1, 2)),
        retries=rng.choice((None, 1, 2, 3)),
        nesting=rng.choice((2, 3, 4)),
        cpus=rng.choice(((0, 32, 33, 34, 35, 36), (0, 1, 2, 3, 4, 5), (40, 3, 63, 1, 0, 2))),
    )


def case(seed: int) -> tuple[ops.Program, Litmus, Parameters]:
    """Draw one case: a program, a scenario and parameters that belong together."""
    rng = random.Random(seed)
    where = scenario(rng)
    objects = where.object is None and where.pages + where.harts <= 4 and chance(rng, 25)
    if objects:
        where = replace(where, pages=where.pages + where.harts, object=where.pages)
    drawn = policy(rng, name=f"drawn-{seed}", objects=where.object is not None)
    small = where.pages == 1 and where.harts == 2 and not where.table
    return ops.lower(drawn), where, parameters(rng, single=small and chance(rng, 15))
