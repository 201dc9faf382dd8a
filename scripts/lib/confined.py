"""Runs a program as a container runtime would: in a root directory, as nobody in particular, with no capability.

usage: confined.py ROOT CGROUP|- [NAME=VALUE...] -- PROGRAM [ARGUMENT...]

Joins the memory cgroup, changes the root, gives up root and every capability for good, and becomes PROGRAM with no
environment but the values given.
"""

import ctypes
import os
import sys

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
USER = 65532

root, cgroup, *rest = sys.argv[1:]
split = rest.index("--")
environment = dict(value.split("=", 1) for value in rest[:split])
program = rest[split + 1 :]
prctl = ctypes.CDLL(None, use_errno=True).prctl


def give_up(*arguments):
    if prctl(*arguments, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl{arguments}")


if cgroup != "-":
    with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="ascii") as procs:
        procs.write("0")
with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as last:
    capabilities = range(int(last.read()) + 1)
os.chroot(root)
os.chdir("/")
for capability in capabilities:
    give_up(PR_CAPBSET_DROP, capability)
os.setgroups([])
os.setresgid(USER, USER, USER)
os.setresuid(USER, USER, USER)
give_up(PR_SET_NO_NEW_PRIVS, 1)
os.execve(program[0], program, environment)
