#!/usr/bin/env python3
"""Makes writes of a running process short, and interrupts calls, as a kernel may.

usage: short_writes.py PROCESS FOLDER SEED
       short_writes.py --available

Of the writes to files below FOLDER, some are cut: the kernel is asked to write fewer
bytes, writes them, and says so. Others, and some syncs, are not done at all and end
with EINTR. Nothing is lied about: what the process is told is what happened.
Writes "attached" when it begins and "SHORT INTERRUPTED", the two counts, when the
process has ended. Linux on x86-64.
"""
import ctypes
import errno
import os
import random
import signal
import struct
import sys

SEIZE, INTERRUPT, SYSCALL, GETREGS, SETREGS, LISTEN = 0x4206, 0x4207, 24, 12, 13, 0x4208
TRACE_SYSCALLS_APART, TRACE_CLONE = 1, 8
WAIT_ALL = 0x40000000
EVENT_STOP = 128
# Call numbers.
PWRITE, PWRITEV2, FSYNC, FDATASYNC = 18, 328, 74, 75
# Places in `struct user_regs_struct`.
R10, RAX, RDX, RSI, RDI, ORIG_RAX = 7, 10, 12, 13, 14, 15
REGISTERS = 27
MASK = (1 << 64) - 1
# Of the calls, so many in a hundred are touched.
SHORT_PERCENT, INTERRUPTED_PERCENT = 40, 30

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, thread, data=None, address=None):
    """One call of ptrace; raises where the thread is gone or may not be traced."""
    if libc.ptrace(request, thread, address, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Tracer:
    """Follows every thread of one process."""

    def __init__(self, process, folder, seed):
        self.process, self.folder = process, os.path.realpath(folder)
        self.random = random.Random(seed)
        self.memory = os.open(f"/proc/{process}/mem", os.O_RDWR)
        # What is to be mended when a thread's call is over.
        self.inside = {}
        self.short = self.interrupted = 0

    def attach(self):
        """Takes hold of all threads; new ones come by themselves."""
        held = set()
        while True:
            threads = set(map(int, os.listdir(f"/proc/{self.process}/task"))) - held
            if not threads:
                break
            for thread in threads:
                try:
                    ptrace(SEIZE, thread, TRACE_SYSCALLS_APART | TRACE_CLONE)
                    ptrace(INTERRUPT, thread)
                except OSError as error:
                    if error.errno == errno.EPERM and held:
                        pass  # Made by a thread that is held already.
                    elif error.errno != errno.ESRCH:
                        raise
                held.add(thread)

    def run(self):
        """Follows until the process has ended."""
        while True:
            try:
                thread, status = os.waitpid(-1, WAIT_ALL)
            except ChildProcessError:
                return
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                self.inside.pop(thread, None)
                continue
            stop, event, deliver = os.WSTOPSIG(status), status >> 16, 0
            try:
                if stop == signal.SIGTRAP | 0x80:
                    self.call(thread)
                elif event == EVENT_STOP and stop in (
                    signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
                    ptrace(LISTEN, thread)
                    continue
                elif event == 0:
                    deliver = stop
                ptrace(SYSCALL, thread, deliver)
            except OSError as error:
                if error.errno != errno.ESRCH:
                    raise

    def call(self, thread):
        """A thread stands before a call or behind one."""
        registers = (ctypes.c_ulonglong * REGISTERS)()
        ptrace(GETREGS, thread, ctypes.addressof(registers))
        if thread in self.inside:
            mend = self.inside.pop(thread)
            if mend is not None:
                mend(registers)
                ptrace(SETREGS, thread, ctypes.addressof(registers))
            return
        self.inside[thread] = None
        number = registers[ORIG_RAX]
        if number not in (PWRITE, PWRITEV2, FSYNC, FDATASYNC):
            return
        if not self.is_ours(registers[RDI]):
            return
        die = self.random.randrange(100)
        if die < INTERRUPTED_PERCENT:
            self.interrupt(thread, registers)
        elif die < INTERRUPTED_PERCENT + SHORT_PERCENT and number in (PWRITE, PWRITEV2):
            self.shorten(thread, registers)

    def is_ours(self, descriptor):
        """Whether it is a file below the folder."""
        try:
            path = os.readlink(f"/proc/{self.process}/fd/{descriptor}")
        except OSError:
            return False
        return path.startswith(self.folder + "/") and os.path.splitext(path)[1] != ".toml"

    def interrupt(self, thread, registers):
        """The call is not done, and ends with EINTR."""
        def mend(after):
            after[RAX] = -errno.EINTR & MASK
        registers[ORIG_RAX] = MASK
        ptrace(SETREGS, thread, ctypes.addressof(registers))
        self.inside[thread] = mend
        self.interrupted += 1

    def shorten(self, thread, registers):
        """The call writes fewer bytes than it was asked to."""
        if registers[ORIG_RAX] == PWRITE:
            wanted = registers[RDX]
            if wanted < 2:
                return
            registers[RDX] = self.random.randrange(1, wanted)
            ptrace(SETREGS, thread, ctypes.addressof(registers))

            def mend(after):
                after[RDX] = wanted
        else:
            if registers[RDX] != 1:
                return
            place = registers[RSI] + 8
            wanted = struct.unpack("<Q", os.pread(self.memory, 8, place))[0]
            if wanted < 2:
                return
            less = self.random.randrange(1, wanted)
            os.pwrite(self.memory, struct.pack("<Q", less), place)

            def mend(_after):
                os.pwrite(self.memory, struct.pack("<Q", wanted), place)
        self.inside[thread] = mend
        self.short += 1


def main():
    """See the top."""
    if sys.argv[1:] == ["--available"]:
        # Whether threads of others may be traced: one's own child will do.
        child = os.fork()
        if child == 0:
            signal.pause()
        try:
            ptrace(SEIZE, child)
        finally:
            os.kill(child, signal.SIGKILL)
        return
    tracer = Tracer(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    tracer.attach()
    print("attached", flush=True)
    tracer.run()
    print(tracer.short, tracer.interrupted, flush=True)


main()
