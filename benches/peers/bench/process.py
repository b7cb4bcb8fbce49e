"""Processes: start them on their core, stop them, and read what they cost."""

import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

TICK = 1_000_000 // os.sysconf("SC_CLK_TCK")

CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORES = {CORES[-1]}
LOAD_CORES = set(CORES[:-1]) or {CORES[0]}
ALL_CORES = set(CORES)


class Failure(Exception):
    """Something that a user can read."""


def spawn(command, folder, cores, realtime, **streams):
    """Starts a process in a session of its own. With `realtime`, other work of the machine cannot delay it."""

    def before():
        os.setsid()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        os.sched_setaffinity(0, cores)
        if realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))

    return subprocess.Popen([str(word) for word in command], cwd=folder, preexec_fn=before, **streams)


def stop(process):
    """Ends a process that was started here, and its children."""
    if process.poll() is not None:
        return
    family = tree(process.pid)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.wait(5)


def stat(pid):
    """The fields of /proc/PID/stat from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def tree(pid):
    """A process and all its descendants."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(stat(entry.name)[1]), []).append(int(entry.name))
            except OSError:
                continue
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def cpu_microseconds(pid):
    """User and system time of a process and its descendants."""
    total = 0
    for member in tree(pid):
        try:
            fields = stat(member)
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total * TICK


def memory_kib(pid):
    """Resident memory of a process and its descendants, what is shared counted once (PSS)."""
    total = 0
    for member in tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


_given = set()


def free_port():
    """A port that is free now and was not given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def wait_for_port(port, process, seconds=30):
    """Whether the process listens in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False
