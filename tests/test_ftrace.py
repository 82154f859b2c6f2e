"""A recording is read the same in whatever form it was printed, and says what it could not read."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysim import ftrace
from pysim.errors import InputError
from pysim.ftrace import Alloc, Event, Exit, Fork, Free, Purge, Switch

ALLOC = (
    "alloc_vmap_area: va_start: 18383693678934491136 size=20480 align=32768 "
    "vstart=0xff20000000000000 vend=0xff60000000000000 failed=0"
)
ALLOCATED = (18383693678934491136, 20480, 32768, 0xFF20000000000000, False)
SWITCH = (
    "sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> "
    "next_comm=init next_pid=240 next_prio=120"
)

LINES: tuple[tuple[str, str, Event], ...] = (
    ("ftrace, five flags", "            init-1       [000] .....     3.015747: " + ALLOC,
     Alloc(3_015_747_000, 0, 1, False, *ALLOCATED)),
    ("four flags, interrupts off", "            init-1     [003] d..2    17.000001: " + ALLOC,
     Alloc(17_000_001_000, 3, 1, True, *ALLOCATED)),
    ("interrupts and softirqs off", "    init-1  [003] D.s2.    17.000001: " + ALLOC,
     Alloc(17_000_001_000, 3, 1, True, *ALLOCATED)),
    ("no flags", "            init-1     [000]     3.015747: " + ALLOC,
     Alloc(3_015_747_000, 0, 1, False, *ALLOCATED)),
    ("thread group", "            init-1       (      1) [000] .....     3.015747: " + ALLOC,
     Alloc(3_015_747_000, 0, 1, False, *ALLOCATED)),
    ("thread group unknown", "           <...>-77      (-------) [001] .....  3.015747: " + ALLOC,
     Alloc(3_015_747_000, 1, 77, False, *ALLOCATED)),
    ("nanoseconds", "            init-1     [000]     3.015747123: " + ALLOC,
     Alloc(3_015_747_123, 0, 1, False, *ALLOCATED)),
    ("trace-cmd pads the name", "init-1     [000]     3.015747: alloc_vmap_area:      "
     + ALLOC.split(": ", 1)[1], Alloc(3_015_747_000, 0, 1, False, *ALLOCATED)),
    ("hexadecimal, equals sign", "init-1 [000] 3.0: alloc_vmap_area: va_start=0xff20000000158000 "
     "size=0x5000 align=0x8000", Alloc(3_000_000_000, 0, 1, False, 0xFF20000000158000, 0x5000,
                                       0x8000, 0, False)),
    ("failed", "            init-1       [000] .....     3.015747: " + ALLOC[:-1] + "1",
     Alloc(3_015_747_000, 0, 1, False, *ALLOCATED[:-1], True)),
    ("more than 1000 harts", "            init-1     [1023] .....     3.015747: " + ALLOC,
     Alloc(3_015_747_000, 1023, 1, False, *ALLOCATED)),
    ("free", "kworker/1:1-42      [001] .....    30.993449: free_vmap_area_noflush: "
     "va_start=0xff20000000025000 nr_lazy=25 nr_lazy_max=24576",
     Free(30_993_449_000, 1, 42, False, 0xFF20000000025000, 25, 24576)),
    ("purge", "  init-1  [001] .n...    10.441875: purge_vmap_area_lazy: start=0xff600000021c2000 "
     "end=0xffffffff00d4d000 num_purged=1",
     Purge(10_441_875_000, 1, 1, False, 0xFF600000021C2000, 0xFFFFFFFF00D4D000, 1)),
    ("purge of nothing", "  init-1  [001] .....    10.4: purge_vmap_area_lazy: "
     "start=0xffffffffffffffff end=0x0 num_purged=0",
     Purge(10_400_000_000, 1, 1, False, ftrace.ADDRESS_END - 1, 0, 0)),
    ("switch", "          <idle>-0       [001] d....     3.017005: " + SWITCH,
     Switch(3_017_005_000, 1, 0, True, "R", 240)),
    ("switch, preempted", "          <idle>-0       [001] d....     3.017005: "
     + SWITCH.replace("=R ", "=R+ "), Switch(3_017_005_000, 1, 0, True, "R+", 240)),
    ("switch, trace-cmd", "          <idle>-0     [001] d..2.     3.017005: sched_switch:         "
     "swapper/1:0 [120] R ==> init:240 [120]", Switch(3_017_005_000, 1, 0, True, "R", 240)),
    ("switch, trace-cmd, wild names", "Web Content-77 [001] 3.017005: sched_switch:         "
     "Web Content:77 [-100] S ==> a:1 [2] b:c:9 [0]", Switch(3_017_005_000, 1, 77, False, "S", 9)),
    ("switch, wild names", "a-9 [000] b-77 [001] .....     3.5: sched_switch: prev_comm=a b=1 "
     "prev_pid=2 prev_pid=77 prev_prio=120 prev_state=X ==> next_comm=next_pid=3 x next_pid=4 "
     "next_prio=120", Switch(3_500_000_000, 1, 77, False, "X", 4)),
    ("name with dash and colon", "kworker/u8:2-ev-31    [000] .....     3.017507: " + ALLOC,
     Alloc(3_017_507_000, 0, 31, False, *ALLOCATED)),
    ("name with blanks", "  Isolated Web Co-1234  [000] .....     3.017507: " + ALLOC,
     Alloc(3_017_507_000, 0, 1234, False, *ALLOCATED)),
    ("empty name", "                -1234  [000] .....     3.017507: " + ALLOC,
     Alloc(3_017_507_000, 0, 1234, False, *ALLOCATED)),
    ("fork", "  init-1       [000] .....     3.017507: sched_process_fork: comm=init pid=1 "
     "child_comm=my pid=3 child_pid=241", Fork(3_017_507_000, 0, 1, False, 241)),
    ("exit", "  init-241     [000] .....     3.017507: sched_process_exit: comm=init pid=241 "
     "prio=120", Exit(3_017_507_000, 0, 241, False)),
    ("exit, later kernels", "  init-241     [000] .....     3.017507: sched_process_exit: "
     "comm=init pid=241 prio=120 group_dead=true", Exit(3_017_507_000, 0, 241, False)),
)

BROKEN: tuple[tuple[str, str, str], ...] = (
    ("prose", "the quick brown fox", "not a line of a trace"),
    ("cut in the time", "            init-1       [000] .....     3.0", "not a line of a trace"),
    ("cut in the fields", "  init-1  [000] .....  3.015747: alloc_vmap_area: va_start: 183836936",
     "alloc_vmap_area: no number size"),
    ("odd size", "  init-1  [000] .....  3.0: alloc_vmap_area: va_start: 4096 size=100 align=1",
     "alloc_vmap_area: size is not a whole number of pages"),
    ("no size", "  init-1  [000] .....  3.0: alloc_vmap_area: va_start: 4096 size=0 align=1",
     "alloc_vmap_area: size is not a whole number of pages"),
    ("odd address", "  init-1  [000] .....  3.0: alloc_vmap_area: va_start: 4097 size=4096 align=1",
     "alloc_vmap_area: va_start is not the address of a page"),
    ("past the end", "  init-1  [000] .....  3.0: alloc_vmap_area: va_start: 0xfffffffffffff000 "
     "size=8192 align=1", "alloc_vmap_area: the area passes the end of the address space"),
    ("free without counts", "  init-1  [000] .....  3.0: free_vmap_area_noflush: va_start=0x1000",
     "free_vmap_area_noflush: no number nr_lazy"),
    ("purge out of range", "  init-1  [000] .....  3.0: purge_vmap_area_lazy: "
     "start=0x10000000000000000 end=0x0 num_purged=1",
     "purge_vmap_area_lazy: start or end is not an address"),
    ("half a switch", "  init-1  [000] .....  3.0: sched_switch: prev_comm=a prev_pid=1",
     "sched_switch: no `previous task ==> next task`"),
    ("half a fork", "  init-1  [000] .....  3.0: sched_process_fork: comm=init pid=1",
     "sched_process_fork: no pid and child_pid"),
    ("half an exit", "  init-1  [000] .....  3.0: sched_process_exit: comm=init",
     "sched_process_exit: no pid"),
    ("picoseconds", "  init-1  [000] .....  3.000000000001: " + ALLOC,
     "alloc_vmap_area: time finer than a nanosecond"),
)


def read(*lines: str) -> ftrace.Trace:
    return ftrace.trace([line + "\n" for line in lines], "here")


@pytest.mark.parametrize(("line", "event"), [row[1:] for row in LINES],
                         ids=[row[0] for row in LINES])
def test_every_printed_form_gives_the_event(line: str, event: Event) -> None:
    found = read(line)
    assert found.events == (event,)
    assert found.tally.broken_nr == 0


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_line_endings_do_not_matter(ending: str) -> None:
    for _, line, event in LINES:
        assert ftrace.trace([line + ending], "here").events == (event,)


@pytest.mark.parametrize(("line", "reason"), [row[1:] for row in BROKEN],
                         ids=[row[0] for row in BROKEN])
def test_a_broken_line_is_named_and_not_fatal(line: str, reason: str) -> None:
    found = read("# tracer: nop", line, LINES[0][1])
    assert [(b.line, b.reason) for b in found.tally.broken] == [(2, reason)]
    assert found.events == (LINES[0][2],)


@pytest.mark.parametrize("line", [row[1] for row in BROKEN])
def test_only_broken_lines_are_refused(line: str) -> None:
    with pytest.raises(InputError, match=r"no usable event in 1 lines, 1 of them broken; line 1"):
        read(line)


def test_broken_lines_are_all_counted_and_few_are_kept() -> None:
    found = read(*["garbage"] * 1000, LINES[0][1])
    assert found.tally.broken_nr == 1000
    assert len(found.tally.broken) == ftrace.BROKEN_KEPT


def test_unknown_events_are_counted_by_name() -> None:
    found = read("  a-1 [000] 1.0: tlb_flush: pages:1 reason:local MM shootdown (3)",
                 "  a-1 [000] 1.0: tlb_flush: pages:-1 reason:flush on task switch (0)",
                 "  a-1 [000] 1.0: sys_close <-system_call_fastpath", LINES[0][1])
    assert found.tally.unknown == {"tlb_flush": 2, "sys_close": 1}
    assert found.tally.broken_nr == 0


def test_events_nobody_knows_are_refused_with_their_name() -> None:
    with pytest.raises(InputError, match="none of 2 events is known here, 2 are tlb_flush"):
        read(*["  a-1 [000] 1.0: tlb_flush: pages:1"] * 2)


def test_notices_of_trace_cmd_and_ftrace_are_not_broken() -> None:
    found = read("version = 7", "CPU 1 is empty", "cpus=2", "", "CPU:1 [LOST 12 EVENTS]",
                 "CPU:0 [EVENTS DROPPED]", "##### CPU 1 buffer started ####",
                 "# entries-in-buffer/entries-written: 840/1511   #P:4", LINES[0][1])
    assert found.tally.broken_nr == 0
    assert found.tally.lost == {1: 12, 0: 1, -1: 1511 - 840}
    assert found.tally.harts_announced == 4


def test_harts_of_a_trace_cmd_header() -> None:
    assert read("cpus=8", LINES[0][1]).tally.harts_announced == 8


def test_events_out_of_order_are_sorted_and_counted() -> None:
    later, earlier = LINES[1], LINES[0]
    found = read(later[1], earlier[1], earlier[1])
    assert found.events == (earlier[2], earlier[2], later[2])
    assert found.tally.out_of_order == 2


# ---- printing and reading -----------------------------------------------------------------------

names = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=15).filter(
    lambda name: not re.search(r"-\d+\s+(\(|\[)|^\s|\s$", name))
pages = st.integers(0, (1 << 52) - 1024).map(lambda page: page * 4096)
pids = st.integers(0, 1 << 22)
times = st.integers(0, 10**15)
heads = st.tuples(times, st.integers(0, 4095), pids, st.booleans())
allocs = st.builds(
    lambda head, *rest: Alloc(*head, *rest), heads, pages,
    st.integers(1, 1024).map(lambda n: n * 4096), st.integers(0, 30).map(lambda n: 1 << n), pages,
    st.booleans())
frees = st.builds(lambda head, *rest: Free(*head, *rest), heads, pages, pids, pids)
purges = st.builds(lambda head, *rest: Purge(*head, *rest), heads, pages, pages, pids)
switches = st.builds(lambda head, *rest: Switch(*head, *rest), heads,
                     st.sampled_from(["R", "R+", "S", "D", "I", "Z", "X", "Z|K"]), pids)
forks = st.builds(lambda head, *rest: Fork(*head, *rest), heads, pids)
exits = st.builds(lambda head: Exit(*head), heads)
any_event = st.one_of(allocs, frees, purges, switches, forks, exits)


def printed_body(event: Event, name: str, child: str, form: str) -> str:
    if isinstance(event, Alloc):
        start = f"{event.va:#x}" if form == "trace-cmd" else event.va
        return (f"alloc_vmap_area: va_start: {start} size={event.size_bytes} "
                f"align={event.align_bytes} vstart={event.region_va:#x} vend=0x0 "
                f"failed={int(event.failed)}")
    if isinstance(event, Free):
        return (f"free_vmap_area_noflush: va_start={event.va:#x} nr_lazy={event.lazy_pages} "
                f"nr_lazy_max={event.lazy_pages_max}")
    if isinstance(event, Purge):
        return (f"purge_vmap_area_lazy: start={event.first_va:#x} end={event.end_va:#x} "
                f"num_purged={event.areas}")
    if isinstance(event, Fork):
        return (f"sched_process_fork: comm={name} pid={event.pid} child_comm={child} "
                f"child_pid={event.child_pid}")
    if isinstance(event, Exit):
        return f"sched_process_exit: comm={name} pid={event.pid} prio=120"
    if form == "trace-cmd":
        return (f"sched_switch:         {name}:{event.pid} [120] {event.prev_state} ==> "
                f"{child}:{event.next_pid} [-1]")
    return (f"sched_switch: prev_comm={name} prev_pid={event.pid} prev_prio=120 "
            f"prev_state={event.prev_state} ==> next_comm={child} next_pid={event.next_pid} "
            f"next_prio=-1")


def printed(event: Event, name: str, child: str, form: str) -> str:
    seconds, rest = divmod(event.at_ns, 10**9)
    flags = {"five": "d...." if event.irqs_off else ".n..3",
             "four": "dNh2" if event.irqs_off else "...1",
             "group": "D.s2." if event.irqs_off else "....."}.get(form, "")
    group = "(   1234) " if form == "group" else ""
    return (f"{name:>16}-{event.pid:<7} {group}[{event.hart:03}] {flags}"
            f" {seconds:5}.{rest:09}: {printed_body(event, name, child, form)}")


@given(st.lists(any_event, min_size=1, max_size=8), names, names,
       st.sampled_from(["five", "four", "group", "none", "trace-cmd"]))
def test_what_was_printed_is_read_back(
    wanted: list[Event], name: str, child: str, form: str
) -> None:
    wanted.sort(key=lambda event: event.at_ns)
    if form in ("none", "trace-cmd"):  # these forms do not say whether interrupts are off
        wanted = [type(e)(*[False if f == "irqs_off" else getattr(e, f) for f in e.__slots__])
                  for e in wanted]
    found = read(*[printed(event, name, child, form) for event in wanted])
    assert list(found.events) == wanted
    assert found.tally.broken_nr == 0


@given(st.lists(st.text(max_size=120), max_size=20))
def test_any_text_is_counted_line_by_line_and_never_raises_anything_else(lines: list[str]) -> None:
    tally = ftrace.Tally()
    found = list(ftrace.events(lines, tally))
    read_or_not = (len(found), tally.comments, sum(tally.unknown.values()), tally.broken_nr)
    assert sum(read_or_not) == len(lines) == tally.lines


@given(st.sampled_from([row[1] for row in LINES]), st.integers(0, 300))
def test_a_line_cut_anywhere_is_never_a_crash(line: str, length: int) -> None:
    tally = ftrace.Tally()
    list(ftrace.events([line[:length]], tally))
    assert tally.lines == 1


# ---- files --------------------------------------------------------------------------------------

TEXT = ("\n".join(row[1] for row in LINES) + "\n").encode()


def test_gzip_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "plain.gz", tmp_path / "zipped.txt"
    plain.write_bytes(TEXT)
    zipped.write_bytes(gzip.compress(TEXT, mtime=0))
    assert ftrace.load(plain).events == ftrace.load(zipped).events
    assert len(ftrace.load(plain).events) == len(LINES)


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "the file is empty"),
    (gzip.compress(b"", mtime=0), "the file is empty"),
    (b"# tracer: nop\n", "no events, only comments"),
    (gzip.compress(TEXT, mtime=0)[:-9], "the gzip file is truncated"),
    (gzip.compress(TEXT, mtime=0)[:40], "the gzip file is truncated"),
    (gzip.compress(TEXT, mtime=0)[:-8] + b"\0" * 8, "the gzip file is damaged"),
    (b"\x1f\x8b\x08\x00" + b"\xff" * 40, "the gzip file is damaged"),
    (b"\x17\x08\x44tracing6\0", "trace-cmd report"),
    (b"PERFILE2" + b"\0" * 40, "a perf.data file"),
    (b"\x00\xff\xfe" * 50, "no usable event"),
])
def test_unusable_files_are_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "some.ftrace.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        ftrace.load(path)
    assert "some.ftrace.txt" in str(caught.value)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        ftrace.load(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        ftrace.load(tmp_path / "nothing")


def test_a_name_that_is_nearly_right_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"did you mean 'riscv-6\.12-mark-smp2-forkburst'"):
        ftrace.load("riscv-6.12-mark-smp2-forkburts")


@pytest.mark.parametrize("name", ftrace.packaged())
def test_packaged_recordings_are_found_by_name_and_by_file_name(name: str) -> None:
    assert ftrace.load(name).events == ftrace.load(name + ftrace.SUFFIX).events
    assert ftrace.load(name).tally.broken_nr == 0


def test_the_package_holds_the_recording_of_the_examples() -> None:
    assert "riscv-6.12-mark-smp2-forkburst" in ftrace.packaged()


@pytest.mark.slow
def test_recorded_traces_load_with_the_counts_of_a_plain_search(shared: Path) -> None:
    files = sorted((shared / "data" / "kernel" / "traces").glob("*.ftrace.txt.gz"))
    assert files
    for path in files:
        text = gzip.decompress(path.read_bytes()).decode()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        plain = Counter(re.findall(r"\d\.\d{6}: (\w+): ", text))
        assert plain.total() == len(lines)
        found = ftrace.load(path)
        assert found.tally.broken_nr == 0, path.name
        assert found.tally.known + found.tally.unknown == plain, path.name
        assert len(found.events) == sum(found.tally.known.values())
        assert len(found.harts) <= found.tally.harts_announced
        assert not found.tally.out_of_order


@pytest.mark.slow
def test_a_long_recording_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """200,000 events nobody knows leave nothing behind but their count."""
    path = tmp_path / "long"
    with gzip.open(path, "wb", compresslevel=1) as out:
        line = b"  task-11931 [001] d..2.  1994.178417: tlb_flush: pages:1 reason:local (3)\n"
        for _ in range(200):
            out.write(line * 1000)
        out.write(LINES[0][1].encode())
    program = ("import sys, tracemalloc; from pysim import ftrace; tracemalloc.start();"
               "t = ftrace.load(sys.argv[1]); print(tracemalloc.get_traced_memory()[1],"
               "t.tally.unknown['tlb_flush'])")
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=True, text=True,
                          capture_output=True, env=os.environ, cwd=Path(__file__).parent.parent)
    peak_bytes, unknown = map(int, done.stdout.split())
    assert unknown == 200_000
    assert peak_bytes < 4 << 20
