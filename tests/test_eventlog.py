"""Event logs are read right: what follows from their lines is found, what does not is said."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_replay import laws, rows, settings

from pysim import engine, eventlog, ftrace, workloads
from pysim import validate_kernel as vk
from pysim.errors import InputError
from pysim.eventlog import Window
from pysim.ftrace import Flush, Fork, SwitchMm, UserFault, UserProtect, UserUnmap
from pysim.workloads import recovery, replay

STACK = 0xFF20000000008000
INIT, PARENT, CHILD, OTHER = 0xA0, 0xB0, 0xC0, 0xD0     # tasks
MM, CHILD_MM, NEW_MM = 0x1000, 0x2000, 0x3000           # address spaces
WHOLE = (1 << 64) - 1


class Log:
    """A log in the making: every line a microsecond after the one before."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, hart: int, what: str, *operands: str, **args: int) -> Log:
        words = [*operands, *(f"{name}={value:x}" for name, value in args.items())]
        nr = len(self.lines)
        self.lines.append(f"{nr} {hart} {1 + nr / 1e6:.6f} {' '.join([what, *words])}")
        return self

    def fence(self, hart: int, *vas: int, asid: int | None = None) -> Log:
        """Fences by address, or one of everything; with an ASID or without."""
        by = {} if asid is None else {"asid": asid}
        for va in vas:
            self(hart, "sfence:S", addr=va, **by)
        return self if vas else self(hart, "sfence:S", *(("full",) * (not by)), **by)

    def switch(self, hart: int, before: int, after: int, mm: int = 0) -> Log:
        if mm:
            self(hart, "switch_mm", a0=0, a1=mm, a2=after)
        return self(hart, "__switch_to", a0=before, a1=after)

    def flush(self, hart: int, mm: int, start: int = 0) -> Log:
        return self(hart, "__flush_tlb_range", a0=mm, a1=0, a2=start)

    def remote(self, hart: int, fid: int, mask: int, start: int, size: int) -> Log:
        return self(hart, "sbi_rfence", fid=fid, hmask=mask, start=start, size=size, asid=1)

    def windows(self, *, svvptc: bool = False, imsic: bool = False,
                tally: ftrace.Tally | None = None) -> list[Window]:
        log = eventlog._Log(tally=tally or ftrace.Tally(), svvptc=svvptc, imsic=imsic,
                            window=Window(workload="boot"))
        return list(eventlog._lines(log, self.lines))


def booted() -> Log:
    """A parent, the kernel's first child, runs on hart 0 and has got an address space."""
    log = Log()(0, "copy_process", a0=0).switch(0, INIT, PARENT)
    return log(0, "switch_mm", a0=0, a1=MM, a2=0)(0, "MARK", "1")


def fork_window(log: Log, **how: Any) -> Window:
    """The window `fork` of a log: what `log` added after its mark."""
    log(0, "MARK", "13")
    return log.windows(**how)[-1]


def of(window: Window, *kinds: type) -> list[ftrace.Event]:
    return [event for event in window.events if isinstance(event, kinds)]


# ---- user pages ---------------------------------------------------------------------------------


def test_fences_in_a_row_are_one_fault_and_others_are_others() -> None:
    log = booted()(0, "MARK", "12")(0, "pagefault", "cause=12", "from=U", stval=0x30394)
    log.fence(0, *range(0x30000, 0x40000, 0x1000))
    log(0, "pagefault", "cause=15", "from=U", stval=0x50000).fence(0, 0x50000)
    log.fence(0, 0x70000)(1, "pagefault", "cause=15", "from=U", stval=0x51000)
    window = fork_window(log.fence(0, 0x71000))
    assert [event.pages for event in of(window, UserFault)] == [16, 1, 2]
    assert window.counted["S_addr"] == 19
    assert not window.others


def test_a_fault_goes_on_where_it_slept() -> None:
    """Another task in between: a new run of fences, the same fault or not, nobody can tell."""
    log = booted()(0, "MARK", "12")(0, "pagefault", "cause=12", "from=U", stval=0x30394)
    log.fence(0, 0x30000).switch(0, PARENT, OTHER).fence(0, 0x31000)
    assert [event.pages for event in of(fork_window(log), UserFault)] == [1, 1]


def test_access_flags_are_no_installed_page() -> None:
    log = booted()(0, "MARK", "12")(0, "pagefault", "cause=15", "from=U", stval=0x50000)
    log(0, "ptep_set_access_flags", a0=1, a1=0x50000).fence(0, 0x50000)
    log(0, "pagefault", "cause=15", "from=U", stval=0x51000).fence(0, 0x51000)
    window = fork_window(log)
    assert len(of(window, UserProtect)) == len(of(window, UserFault)) == 1


def test_with_svvptc_faults_and_flags_are_told_by_their_events() -> None:
    log = booted()(0, "MARK", "12")(0, "pagefault", "cause=15", "from=U", stval=0x50000)
    log(0, "pagefault", "cause=15", "from=U", stval=0x51000)(0, "ptep_set_access_flags", a0=1)
    log.flush(0, MM, 0x51000).fence(0, 0x51000, asid=1)
    log(0, "pagefault", "cause=13", "from=S", stval=STACK)
    window = fork_window(log, svvptc=True)
    assert len(of(window, UserFault)) == len(of(window, UserProtect)) == 1
    assert not of(window, UserUnmap)
    assert window.counted == {"S_addr_asid": 1, "S_sfence": 1}


def test_a_flush_reaches_as_far_as_its_fences_say() -> None:
    log = booted()(0, "MARK", "12").flush(0, MM, 0x5000).fence(0, 0x5000, 0x6000, 0x7000, asid=1)
    log.flush(0, MM).fence(0, asid=1)
    log.flush(0, MM, 0x5000).remote(0, 2, 3, 0x5000, 0x4000)
    log.flush(0, MM).remote(0, 2, 7, 0, WHOLE)
    tally = ftrace.Tally()
    window = fork_window(log.flush(0, MM), tally=tally)     # the last one fences nothing
    assert [event.pages for event in of(window, UserUnmap)] == [3, 0, 4, 0]
    assert tally.notes == {"user flushes that fenced nothing": 1}
    assert (window.counted["user calls"], window.counted["user targets"]) == (2, 5)
    assert (window.counted["rf_user"], window.counted["rf_full"]) == (1, 1)
    assert not window.others


# ---- address spaces -----------------------------------------------------------------------------


def spaces(window: Window) -> list[tuple[int, int]]:
    return [(event.hart, event.space) for event in window.events if isinstance(event, SwitchMm)]


def test_flushes_under_way_at_once_are_told_apart_by_their_pages() -> None:
    """Under the kernel's own IPIs a hart fences for another while its own flush has not begun."""
    log = booted()(0, "MARK", "12").flush(0, MM, 0x5000).flush(1, MM)
    log.fence(0, asid=1).fence(1, asid=1)                   # hart 1's, of the whole space
    log.fence(1, 0x5000, 0x6000, asid=1).fence(0, 0x5000, 0x6000, asid=1)
    log.flush(0, MM, 0x8000).flush(1, MM, 0x9000)
    for hart in (1, 0):
        log.fence(hart, 0x9000, asid=1).fence(hart, 0x8000, 0x9000, 0xA000, asid=1)
    log.flush(1, MM).fence(2, asid=1)                       # it runs on another hart alone
    log.flush(0, MM).fence(0, asid=1).flush(2, MM).fence(0, asid=1)
    window = fork_window(log, imsic=True)
    assert [(event.hart, event.pages) for event in of(window, UserUnmap)] == [
        (0, 2), (1, 0), (0, 3), (1, 1), (1, 0), (0, 0), (2, 0)]
    assert not window.others


def test_a_space_at_the_place_of_a_dead_one_is_another() -> None:
    log = booted()(0, "MARK", "12")
    for _ in range(2):
        log(0, "copy_process", a0=0).switch(0, PARENT, CHILD, CHILD_MM)(0, "do_exit", a0=0)
        log.flush(0, CHILD_MM).fence(0, asid=2).switch(0, CHILD, PARENT, MM)
    window = fork_window(log)
    assert spaces(window) == [(0, 2), (0, 1), (0, 3), (0, 1)]
    assert [event.space for event in of(window, UserUnmap)] == [2, 3]
    assert [event.child_pid for event in of(window, Fork)] == [2, 3]


def test_a_task_that_sleeps_while_it_exits_is_no_other() -> None:
    log = booted()(0, "MARK", "12")(0, "copy_process", a0=0)
    log.switch(0, PARENT, CHILD, CHILD_MM)(0, "do_exit", a0=0)
    log.switch(0, CHILD, PARENT, MM).switch(0, PARENT, CHILD, CHILD_MM)
    log.flush(0, CHILD_MM).fence(0, asid=2).switch(0, CHILD, PARENT, MM)
    log.switch(0, PARENT, CHILD).switch(0, CHILD, PARENT, MM)   # its last words, in nobody's space
    tally = ftrace.Tally()
    window = fork_window(log, tally=tally)
    assert spaces(window) == [(0, 2), (0, 1), (0, 2), (0, 1)]
    assert len(of(window, Fork)) == 1
    assert not tally.notes


def test_threads_live_in_one_space_until_the_last_has_gone() -> None:
    log = booted()(0, "MARK", "12")(0, "copy_process", a0=0)(0, "copy_process", a0=0)
    log.switch(1, INIT, CHILD, MM)(1, "do_exit", a0=0).switch(1, CHILD, OTHER, MM)
    log(0, "do_exit", a0=0).switch(0, PARENT, INIT)
    window = fork_window(log.flush(1, MM, 0x5000).remote(1, 2, 3, 0x5000, 0x1000))
    assert spaces(window) == [(1, 1)]
    assert [event.space for event in of(window, UserUnmap)] == [1]


def test_exec_is_a_space_of_its_own_and_drops_the_old_one() -> None:
    log = booted()(0, "MARK", "12")(0, "copy_process", a0=0).switch(0, PARENT, CHILD, CHILD_MM)
    log(0, "switch_mm", a0=CHILD_MM, a1=NEW_MM, a2=0).flush(0, CHILD_MM).fence(0, asid=2)
    log(0, "copy_process", a0=0).switch(0, CHILD, OTHER, CHILD_MM)
    window = fork_window(log)
    assert spaces(window) == [(0, 2), (0, 3), (0, 4)]
    assert [event.space for event in of(window, UserUnmap)] == [2]


def test_a_window_begins_with_the_masks_of_what_came_before() -> None:
    log = booted().switch(1, OTHER, PARENT, MM)(0, "MARK", "12")
    window = fork_window(log.flush(1, MM, 0x5000).remote(1, 2, 3, 0x5000, 0x1000))
    trace = window.trace("log", 3)
    assert [(e.hart, e.space) for e in trace.events if isinstance(e, SwitchMm)] == [
        (0, 1), (1, 1)]
    result = engine.simulate(vk.question(trace, "mark-6.12", vk.qemu(), 3))
    assert (result.counters["remote_user_calls"], result.counters["remote_user_targets"]) == (1, 2)


# ---- tasks and stacks ---------------------------------------------------------------------------


def test_a_fork_comes_after_its_stack_and_knows_its_child() -> None:
    log = booted()(0, "MARK", "12")(0, "copy_process", a0=0)
    log.switch(0, PARENT, INIT).switch(0, INIT, PARENT, MM)     # it slept before it had the stack
    log(0, "__vmap_pages_range_noflush", a0=STACK, a1=STACK + 0x4000).flush(0, MM)
    log.fence(0, asid=1).switch(0, PARENT, CHILD, CHILD_MM)
    rec = recovery.recover(fork_window(log).trace("log", 1))
    assert rec.findings == {"stacks reserved by a fork": 1}
    (fork,) = rec.stacks
    assert rec.stacks[fork].va == STACK
    event = rec.trace.events[fork]
    assert isinstance(event, Fork)
    assert event.child_pid == 2


def test_an_idle_task_is_nobodys_child() -> None:
    log = booted()(0, "MARK", "12")(0, "copy_process", a0=WHOLE)
    log(0, "__vmap_pages_range_noflush", a0=STACK, a1=STACK + 0x4000)
    log(0, "copy_process", a0=0).switch(0, PARENT, CHILD, CHILD_MM)
    assert [event.child_pid for event in of(fork_window(log), Fork)] == [2]


def test_children_of_several_forks_are_taken_in_order_and_that_is_said() -> None:
    tally = ftrace.Tally()
    log = booted()(0, "MARK", "12")(0, "copy_process", a0=0)(0, "copy_process", a0=0)
    log.switch(1, INIT, CHILD, CHILD_MM).switch(1, CHILD, OTHER, NEW_MM)
    assert [event.child_pid for event in of(fork_window(log, tally=tally), Fork)] == [2, 3]
    assert tally.notes == {"children told apart by the order of their forks": 1}


# ---- kernel ranges ------------------------------------------------------------------------------


def test_a_flush_of_what_was_just_mapped_is_the_maps_own() -> None:
    log = booted()(0, "MARK", "12")(0, "__vmap_pages_range_noflush", a0=STACK, a1=STACK + 0x2000)
    log(0, "flush_tlb_kernel_range", a0=STACK, a1=STACK + 0x2000)
    log.remote(0, 1, 3, STACK, 0x2000)
    log(0, "flush_tlb_kernel_range", a0=STACK, a1=STACK + 0x2000)     # and then a purge
    log.remote(0, 1, 3, STACK, 0x2000)(0, "flush_tlb_all").remote(0, 1, 3, 0, WHOLE)
    window = fork_window(log.remote(0, 0, 3, 0, 0))
    assert len(of(window, ftrace.Purge)) == len(of(window, Flush)) == 1
    want = {"rf_calls": 3, "rf_kern": 2, "map calls": 1, "rf_full": 1, "rf_targets": 6,
            "kernel targets": 4, "fencei_calls": 1, "ftkr_calls": 2}
    assert window.counted == want


def test_fences_of_the_kernel_without_a_cause_are_counted_apart() -> None:
    log = booted()(0, "MARK", "12").fence(0).fence(0, STACK).fence(0, asid=3)
    log(0, "flush_tlb_kernel_range", a0=STACK, a1=STACK + 0x2000).fence(0, STACK, STACK + 0x1000)
    log.fence(0, STACK + 0x2000)(0, "flush_tlb_all").fence(0)
    window = fork_window(log)
    assert window.others == {"S_full": 1, "S_addr": 2, "S_asid": 1}
    assert (window.counted["S_full"], window.counted["S_addr"]) == (2, 4)


# ---- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "why"), [
    ("garbage", "invalid literal"), ("1 0 1.0", "list index"), ("1 -1 1.0 MARK 1", "no such hart"),
    ("1 0 -1.0 MARK 1", "no such hart or time"), ("1 0 1.0 MARK one", "invalid literal"),
    ("1 0 1.0 switch_mm a1=5", "lacks a2"), ("1 0 1.0 flush_tlb_kernel_range a0=5", "lacks a1"),
])
def test_a_broken_line_is_named_by_number_and_left_out(line: str, why: str) -> None:
    log, tally = booted()(0, "MARK", "12"), ftrace.Tally()
    log.lines.append(line)
    fork_window(log, tally=tally)
    assert [(b.line, b.text) for b in tally.broken] == [(len(log.lines) - 1, line)]
    assert why in tally.broken[0].reason


def test_unknown_events_comments_and_gaps_are_counted() -> None:
    log, tally = booted()(0, "MARK", "12")(0, "unheard_of", a0=1)(0, "unheard_of"), ftrace.Tally()
    log.lines += ["# a comment", "", "90 0 2.0 __set_memory a0=1"]
    fork_window(log, tally=tally)
    assert tally.unknown == {"unheard_of": 2}
    assert tally.comments == 2
    assert tally.lost[-1] == 90 - len(log.lines) + 4
    assert tally.broken_nr == 0


def saved(folder: Path, log: Log, name: str = "events-6.12-mark-smp2.evt.gz") -> str:
    text = "\n".join(log.lines) + "\n"
    (folder / name).write_bytes(gzip.compress(text.encode()))
    return str(folder / name)


def test_a_window_is_chosen_by_name_and_a_wrong_one_is_told_which_there_are(tmp_path: Path) -> None:
    log = booted()(0, "MARK", "12").flush(0, MM).fence(0, asid=1)(0, "MARK", "13")
    path = saved(tmp_path, log(0, "MARK", "20").flush(0, MM).fence(0, asid=1)(0, "MARK", "21"))
    assert len(eventlog.load(Path(path), "fork").events) == 2   # who runs, and the flush
    assert sum(isinstance(e, UserUnmap) for e in eventlog.load(Path(path)).events) == 2
    with pytest.raises(InputError, match="it has boot, fork, forkexec; did you mean 'forkexec'"):
        replay.recovered(path, "forkexe")
    with pytest.raises(InputError, match="only an event log"):
        replay.recovered("riscv-6.12-mark-smp2-forkburst", "fork")


def test_a_window_in_which_nothing_happened_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, booted()(0, "MARK", "12")(0, "MARK", "13"))
    with pytest.raises(InputError):
        replay.recovered(path, "fork")


def test_a_workload_may_replay_a_window(tmp_path: Path) -> None:
    log = booted()(0, "MARK", "12").flush(0, MM).fence(0, asid=1)(0, "MARK", "13")
    path = saved(tmp_path, log(0, "MARK", "20").fence(0, 0x5000)(0, "MARK", "21"))
    whole = workloads.load("forkburst").override({"trace": path})
    one, other = (whole.override({"window": window}) for window in ("fork", "forkexec"))
    machine = vk.qemu()
    kinds = [Counter(row["kind"] for row in rows(replay.of(w, machine, 2)))
             for w in (whole, one, other)]
    assert [(k["user_unmap"], k["user_fault"]) for k in kinds] == [(1, 1), (1, 0), (0, 1)]
    assert len({w.seed(1, 0) for w in (whole, one, other)}) == 3
    with pytest.raises(InputError, match="only a replay has a window"):
        workloads.load("idle").override({"window": "fork"})


# ---- any log ------------------------------------------------------------------------------------

TASKS, MMS, HARTS = st.sampled_from((INIT, PARENT, CHILD, OTHER)), st.sampled_from(
    (MM, CHILD_MM, NEW_MM)), st.integers(0, 2)


@st.composite
def any_log(draw: st.DrawFn) -> Log:
    """Events in any order, consistent or not."""
    log = Log()
    for _ in range(draw(st.integers(1, 60))):
        hart, page = draw(HARTS), draw(st.integers(0, 12))
        first = STACK + page * 0x1000
        end = first + 0x1000 * draw(st.sampled_from((1, 4)))
        match draw(st.sampled_from("mmuufksscxpraqe")):
            case "m":
                log(hart, "__vmap_pages_range_noflush", a0=first, a1=end)
            case "u":
                log(hart, "__vunmap_range_noflush", a0=first, a1=end)
            case "f":
                log(hart, "flush_tlb_kernel_range", a0=first, a1=end)
            case "k":
                log(hart, "copy_process", a0=draw(st.sampled_from((0, 0, 5))))
            case "s":
                log.switch(hart, draw(TASKS), draw(TASKS), draw(st.sampled_from((0, MM, CHILD_MM))))
            case "c":
                log(hart, "switch_mm", a0=0, a1=draw(MMS), a2=0)
            case "x":
                log(hart, "do_exit", a0=0)
            case "p":
                log.fence(hart, 0x5000 + page * 0x1000)
            case "r":
                log.flush(hart, draw(MMS), 0x5000).fence(hart, 0x5000, asid=1)
            case "a":
                log(hart, "flush_tlb_all")
            case "q":
                log.flush(hart, draw(MMS)).remote(hart, 2, 3, 0, WHOLE)
            case _:
                log(hart, "ptep_set_access_flags", a0=1)
    return log


@given(any_log(), st.integers(1, 4), st.booleans())
def test_any_log_obeys_the_laws_of_replay(log: Log, harts: int, svvptc: bool) -> None:
    (window,) = log(0, "MARK", "1").windows(svvptc=svvptc)
    if window.events:
        laws(recovery.recover(window.trace("log", 3)), settings(harts), seeds=2)


def logs(shared: Path) -> Sequence[Path]:
    found = sorted((shared / "data" / "kernel" / "traces").glob("events-*.evt.gz"))
    assert found
    return found


@pytest.mark.slow
@pytest.mark.parametrize("harts", [1, 2, 4, 8])
def test_every_recorded_window_obeys_the_laws(shared: Path, harts: int) -> None:
    for path in logs(shared):
        for window in eventlog.windows(path, ftrace.Tally()):
            rec = recovery.recover(window.trace(path.name, 1))
            laws(rec, settings(harts), seeds=1)


def test_real_logs_leave_no_fence_without_a_cause_outside_of_boots_and_modules(
    shared: Path
) -> None:
    """Text of modules is patched through the fixmap, twice a load; nothing else is unexplained."""
    for path in logs(shared):
        for window in eventlog.windows(path, ftrace.Tally()):
            loads = {"modload": 10, "tv_rand": 1}.get(window.workload, 0)
            if window.workload != "boot":
                assert window.others == ({"S_addr": 2 * loads} if loads else {}), path.name
