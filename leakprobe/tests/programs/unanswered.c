// `unanswered MODE`: memory and files that never answer.
//   uffd      three threads whose stack pointers lie in memory of a userfaultfd that nobody serves
//   vanish    the same, but the pages are there for a moment, over and over
//   mapped    the same in a mapping of a file whose server answers no read
//   file      becomes a program that lies on a file system, which answers nothing any more once "hang" is read
//   exec      the same file system; once "hang" is read it begins another program, and has a file there to be closed with that
// All of them have two threads beside, which are parked as others are. The file system is FUSE, spoken by ourselves.
#include "common.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

enum { TRAPS = 3, PAGE = 4096, TRAP = 4 * PAGE };
static char *trap;

// Parks with the stack pointer in the trap, where not one word is touched.
static void *parked_there(void *of)
{
    char *stack = trap + (long)of * TRAP + 2 * PAGE;
#ifdef __x86_64__
    __asm__ volatile("mov %0,%%rsp; 1: mov $34,%%eax; syscall; jmp 1b" ::"r"(stack) : "rax", "rcx", "r11", "memory");
#else // ppoll(NULL, 0, NULL, NULL, 0)
    __asm__ volatile("mov sp,%0; 1: mov x0,#0; mov x1,#0; mov x2,#0; mov x3,#0; mov x4,#0; mov x8,#73; svc #0; b 1b" ::"r"(stack)
                     : "x0", "x1", "x2", "x3", "x4", "x8", "memory");
#endif
    return of;
}

static void *bystander(void *arg)
{
    park();
    return arg;
}

// This kernel cannot do it.
static void cannot(void)
{
    if (errno != ENOSYS && errno != ENOENT && errno != ENODEV && errno != ENXIO)
        return;
    say("cannot");
    _exit(0);
}

static int userfault(void)
{
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = {.api = UFFD_API};
    if (fd < 0)
        cannot();
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0)
        fail("userfaultfd");
    trap = mmap(NULL, TRAPS * TRAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = {.range = {(uintptr_t)trap, TRAPS * TRAP}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(fd, UFFDIO_REGISTER, &range) != 0)
        fail("UFFDIO_REGISTER");
    return fd;
}

// Pages come and go, and whoever touches one that has gone waits.
static void *vanishing(void *arg)
{
    int fd = *(int *)arg;
    for (;;) {
        struct uffdio_zeropage zero = {.range = {(uintptr_t)trap, TRAPS * TRAP}, .mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE};
        ioctl(fd, UFFDIO_ZEROPAGE, &zero);
        usleep(20);
        madvise(trap, TRAPS * TRAP, MADV_DONTNEED);
    }
    return NULL;
}

static volatile sig_atomic_t hangs;

static void hang(int signal)
{
    hangs = signal;
    // Whoever waits for us cannot be killed before we end.
    alarm(120);
}

static void reply(int fuse, uint64_t unique, int error, const void *body, size_t length)
{
    static char out[1 << 18];
    struct fuse_out_header head = {sizeof head + length, error, unique};
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head, body, length);
    if (write(fuse, out, head.len) < 0 && errno != ENOENT)
        _exit(7);
}

// Serves one file, /f, with the bytes of `source`. Nothing is kept by the kernel: it asks again each time.
static void serve(int fuse, int source, int answers_reads)
{
    static char in[1 << 18];
    struct stat of;
    fstat(source, &of);
    for (;;) {
        ssize_t length = read(fuse, in, sizeof in);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            _exit(0);
        struct fuse_in_header *head = (void *)in;
        void *body = head + 1;
        int is_file = head->nodeid != FUSE_ROOT_ID;
        struct fuse_attr attr = {.ino = head->nodeid, .nlink = 1, .mode = is_file ? S_IFREG | 0755 : S_IFDIR | 0755};
        attr.size = is_file ? of.st_size : 0;
        if (hangs && head->opcode != FUSE_FORGET)
            continue;
        switch (head->opcode) {
        case FUSE_INIT: {
            // Without FUSE_ASYNC_READ: who waits for a page cannot be ended by any signal.
            struct fuse_init_out init = {.major = 7, .minor = 31, .max_readahead = 1 << 17, .max_write = 1 << 16};
            reply(fuse, head->unique, 0, &init, sizeof init);
            break;
        }
        case FUSE_LOOKUP: {
            struct fuse_entry_out entry = {.nodeid = 2, .attr = attr};
            entry.attr.mode = S_IFREG | 0755;
            entry.attr.size = of.st_size;
            entry.attr.ino = 2;
            reply(fuse, head->unique, strcmp(body, "f") ? -ENOENT : 0, &entry, strcmp(body, "f") ? 0 : sizeof entry);
            break;
        }
        case FUSE_GETATTR: {
            struct fuse_attr_out out = {.attr = attr};
            reply(fuse, head->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_OPEN:
        case FUSE_OPENDIR: {
            struct fuse_open_out open = {.fh = 1};
            reply(fuse, head->unique, 0, &open, sizeof open);
            break;
        }
        case FUSE_READ: {
            struct fuse_read_in *want = body;
            static char bytes[1 << 17];
            if (!answers_reads)
                continue;
            size_t size = want->size < sizeof bytes ? want->size : sizeof bytes;
            ssize_t got = pread(source, bytes, size, want->offset);
            reply(fuse, head->unique, got < 0 ? -EIO : 0, bytes, got < 0 ? 0 : got);
            break;
        }
        case FUSE_FLUSH:
        case FUSE_RELEASE:
        case FUSE_RELEASEDIR:
            reply(fuse, head->unique, 0, NULL, 0);
            break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
            break;
        default:
            reply(fuse, head->unique, -ENOSYS, NULL, 0);
        }
    }
}

// Mounts the file system over /tmp, where only we see it, served by a child. The path of its file.
static const char *mounted(const char *path_of_source, int answers_reads)
{
    char options[128];
    int source = open(path_of_source, O_RDONLY);
    int fuse = open("/dev/fuse", O_RDWR);
    if (fuse < 0)
        cannot();
    if (source < 0 || fuse < 0 || unshare(CLONE_NEWNS) != 0)
        fail("unshare");
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mount("unanswered", "/tmp", "fuse", 0, options) != 0)
        fail("mount");
    int server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct sigaction action = {.sa_handler = hang};
        sigaction(SIGUSR1, &action, NULL);
        serve(fuse, source, answers_reads);
    }
    // Once the server ends, nobody else must hold the connection open.
    close(fuse);
    close(source);
    char number[16];
    snprintf(number, sizeof number, "%d", server);
    setenv("SERVER", number, 1);
    return "/tmp/f";
}

static void *touching(void *arg)
{
    volatile char *there = arg;
    (void)*there;
    return NULL;
}

int main(int argc, char **argv)
{
    begin();
    const char *mode = argc > 1 ? argv[1] : "uffd";
    static int fd;
    if (strcmp(mode, "file") == 0) {
        const char *file = mounted("/proc/self/exe", 1);
        execl(file, file, "from-file", (char *)NULL);
        fail("exec");
    }
    if (strcmp(mode, "mapped") == 0) {
        fd = open(mounted("/proc/self/exe", 0), O_RDONLY | O_CLOEXEC);
        trap = fd < 0 ? MAP_FAILED : mmap(NULL, TRAPS * TRAP, PROT_READ, MAP_PRIVATE, fd, 0);
        if (trap == MAP_FAILED)
            fail("mmap");
        madvise(trap, TRAPS * TRAP, MADV_RANDOM);
        start("toucher", touching, trap);
    } else if (strcmp(mode, "exec") == 0) {
        fd = open(mounted("/proc/self/exe", 1), O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            fail("open");
    } else if (strcmp(mode, "from-file") != 0) {
        fd = userfault();
    }
    if (trap)
        for (long n = 0; n < TRAPS; n++)
            start("trapped", parked_there, (void *)n);
    start("bystander", bystander, NULL);
    start("bystander", bystander, NULL);
    if (strcmp(mode, "vanish") == 0)
        start("vanishing", vanishing, &fd);
    say("ready");
    char *line;
    while ((line = command())) {
        if (strcmp(line, "hang") == 0) {
            kill(atoi(getenv("SERVER")), SIGUSR1);
            say("hangs");
            if (strcmp(mode, "exec") == 0)
                execl("/proc/self/exe", "unanswered", "from-file", (char *)NULL);
        }
    }
    _exit(0);
}
