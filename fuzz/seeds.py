#!/usr/bin/env python3
"""seeds.py: makes the small seeds in fuzz/corpus, from which `cargo xtask fuzz` starts. Needs cc and objcopy."""
import lzma, os, pathlib, struct, subprocess, tempfile, zlib

here = pathlib.Path(__file__).parent
corpus = here / "corpus"


def put(target, name, data):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def program(*flags, strip=None):
    """A program without the C library, of some KB."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = f"{folder}/a.c", f"{folder}/a"
        pathlib.Path(source).write_text(
            "static int sink;\nstatic inline __attribute__((always_inline)) void in(void) { sink++; }\n"
            "__attribute__((noinline)) void out(void) { in(); }\nvoid _start(void) { out(); for (;;) ; }\n"
        )
        base = ["cc", "-nostdlib", "-static", "-O1", "-Wl,-z,noseparate-code", "-Wl,--build-id"]
        subprocess.run([*base, *flags, "-o", out, source], check=True)
        if strip:
            subprocess.run(["objcopy", *strip, out], check=True)
        return pathlib.Path(out).read_bytes()


def zstd(data):
    """One frame of one raw block."""
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(data)]) + (len(data) << 3 | 1).to_bytes(3, "little") + data


elf, compressed = program("-g"), program("-g", "-gz=zlib")
put("symbols", "plain", elf)
put("symbols", "compressed", compressed)
put("symbols", "stripped", program(strip=["--strip-all"]))
with tempfile.TemporaryDirectory() as folder:
    inner = pathlib.Path(f"{folder}/symbols.xz")
    inner.write_bytes(lzma.compress(program()))
    put("symbols", "debugdata", program(strip=["--strip-all", f"--add-section=.gnu_debugdata={inner}"]))
registers = struct.pack("<8Q", 0x10, 0x40_1000, 0x7FFF_0000, 0x7FFF_0040, 0x400, 8, 16, 24)
stack = struct.pack("<32Q", *(0x5040_1000 + 8 * n for n in range(32)))
put("unwind", "frames", registers + struct.pack("<H", len(stack)) + stack + program())
put("unwind", "debug_frame", registers + struct.pack("<H", len(stack)) + stack
    + program("-g", "-fno-asynchronous-unwind-tables"))
text = b"some bytes " * 200
put("inflate", "zlib", bytes([0, 3]) + zlib.compress(text[:2048] + bytes(1024)))
put("inflate", "zstd", bytes([1, 1]) + zstd(bytes(128)) * 8)

magic = {20: 0xFFFFFFF1, 18: 0xFFFFFFF0}
for minor, number in magic.items():
    # A table of two functions: the header, names, files, tables of values, functions.
    header = struct.pack("<IBBBBQQQ", number, 0, 0, 1, 8, 2, 1, 0x40_1000)
    body = struct.pack("<5Q", 72, 104, 112, 120, 136)
    names, places = b"main.main\0main.wait\0".ljust(32, b"\0"), bytes(8)
    files, values = b"a.go\0".ljust(8, b"\0"), bytes([0, 2, 4, 8, 2, 4, 0]).ljust(16, b"\0")
    entries = struct.pack("<5I", 0, 24, 64, 24, 128).ljust(24, b"\0")
    function = struct.pack("<IiiIIIIiIBBBB", 0, 0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0)
    put("pclntab", f"go1.{minor}", struct.pack("<HB", 0, minor) + header + body + names + places + files + values + entries + function)
    data = bytearray(header + body).ljust(0x400, b"\0")
    words = [0] * 80
    words[0], words[13], words[14] = 0x40_0000, 0x40_0048, 0x100
    words[22], words[23] = 0x40_1000, 0x40_1080
    put("moduledata", f"go1.{minor}", bytes(data) + struct.pack("<80Q", *words))
put("moduledata", "buildinfo", b"\xff Go buildinf:\x08\x02".ljust(32, b"\0") + b"\x08go1.26.1")

put("hotspot", "library", program("-shared", "-fPIC"))
types = struct.pack("<III", 1, 1 << 24, 4) + struct.pack("<I", 1 << 24 | 32)
types += struct.pack("<IIIIII", 7, 4 << 24 | 1, 16, 11, 1, 64)
strings = b"\0int\0\0\0task_struct\0pid\0"
put("btf", "small", struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings)
for kind, size in {1: 400, 2: 24, 3: 24, 4: 32, 5: 300, 6: 208, 7: 24}.items():
    put("records", f"kind{kind}", struct.pack("<IIQ", kind, 42, 10**9).ljust(size, b"\1"))
put("perfmap", "java", "7f0000001000 40 void Main.run();x\n1000 10 first\n0x1008 0x10 second\n5 1 third\n")
put("config", "rules", '[[ignore]]\nsite = "02fe991c"\nreason = "known"\n\n[[ignore]]\nfunction = "main.*"\nreason = "x"\n')
put("proc", "maps", "\x00" + "55d0c0a00000-55d0c0a01000 r-xp 00001000 fe:00 1234 /usr/bin/app (deleted)\n7ffc-7ffd rw-p 0 00:00 0 [stack]\n")
put("proc", "stat", "\x0042 (a (b) c) S 1 42 42 0 -1 4194560 " + "7 " * 44)
put("proc", "cgroup", "\x000::/system.slice/app.service\n4:cpu,memory:/x\n")
put("proc", "fdinfo", "\x01pos:\t0\nflags:\t02004002\nclockid: 1\nticks: 0\nit_value: (3, 5)\nit_interval: (0, 0)\ntfd: 5 events: 19 data: 5 pos:0 ino:61af sdev:7\n")
put("proc", "locks", "\x011: POSIX  ADVISORY  WRITE 1234 fe:00:99 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 12 fe:00:99 0 EOF\nsocket:[123]\n")
put("proc", "syscall", "\x02202 0x7f00 0x80 0x0 0x0 0x0 0xffffffff 0x7ffc00001000 0x7f0000001234\n")
header = struct.pack("<IHHII", 16 + 72, 20, 2, 1, 7)
put("sock_diag", "inet", header + struct.pack("<BBBB", 2, 10, 0, 0).ljust(72, b"\2"))
put("sock_diag", "unix", struct.pack("<IHHII", 16 + 16 + 12, 20, 2, 1, 7) + struct.pack("<BBBBIII", 1, 1, 10, 0, 99, 1, 2) + struct.pack("<HHII", 12, 4, 3, 4))
put("sock_diag", "error", struct.pack("<IHHIIi", 36, 2, 0, 1, 7, -2).ljust(36, b"\0"))

recording = os.environ.get("LEAKPROBE_RECORDING")
if recording:
    put("recording", "small", pathlib.Path(recording).read_bytes())
