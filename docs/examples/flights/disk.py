"""An ext4 disk of its own, in a file, that can lose its power. Linux, needs root."""

import fcntl
import os
import shutil
import struct
import subprocess
import time

# So much it claims to have; the file takes only what is written.
SIZE_BYTES = 4 << 30
# FS_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: the file system ends at once and
# does not write its log. What was not synced never reaches the file.
SHUT_DOWN, NO_LOG_FLUSH = 0x8004587D, 2
# A process that was just killed may still hold a file: attempts, and their pause.
UNMOUNT_ATTEMPTS, UNMOUNT_PAUSE_S = 100, 0.05


class NoDisk(Exception):
    """Why there can be none here, in one line."""


class Disk:
    """Mounted at `path`; `close` takes it off and removes it."""

    def __init__(self, folder):
        if os.geteuid() != 0:
            raise NoDisk("mounting a disk needs root")
        if not (shutil.which("mkfs.ext4") and shutil.which("mount")):
            raise NoDisk("there is no mkfs.ext4 or no mount")
        self.folder, self.image, self.path = folder, folder / "disk.img", folder / "disk"
        self.path.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(SIZE_BYTES)
        self._run("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
        self._mount()

    def _run(self, *words):
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            said = (done.stdout.strip().splitlines() or ["it failed"])[0]
            raise NoDisk(f"{words[0]}: {said}")

    def _mount(self):
        # The file system's log is written when somebody syncs, and else after five
        # minutes: nothing becomes durable by chance.
        self._run("mount", "-t", "ext4", "-o", "loop,commit=300", self.image, self.path)

    def _unmount(self):
        for attempt in range(UNMOUNT_ATTEMPTS):
            try:
                return self._run("umount", self.path)
            except NoDisk as error:
                if "busy" not in str(error) or attempt + 1 == UNMOUNT_ATTEMPTS:
                    raise
                time.sleep(UNMOUNT_PAUSE_S)

    def cut(self):
        """Cuts the power: every write and sync fails from now on."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            # Never the disk that everything else lies on.
            if os.fstat(descriptor).st_dev == os.stat(self.folder).st_dev:
                raise SystemExit(f"FAILED: nothing is mounted at {self.path}")
            fcntl.ioctl(descriptor, SHUT_DOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def mount_again(self):
        """As a machine does that starts anew; nobody may use it."""
        self._unmount()
        self._mount()

    def close(self):
        if os.path.ismount(self.path):
            self._unmount()
        self.image.unlink(missing_ok=True)
