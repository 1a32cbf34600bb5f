//! Recordings made by hand, like those of real runs.

pub(crate) mod check;
pub(crate) mod go;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::model::{
    Cost, Coverage, CreatedBy, EndedWait, Frame, Gap, GrowthSample, Loss, Pause, Recording, Role, SCHEMA, Site, Source,
    StackEnd, TargetInfo, Task, TaskKind, TaskState, Tool, Verdict, Wait, WaitKind,
};

const APP: &str = "/srv/checkout/bin/checkout";
const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";
const LIBSTDCXX: &str = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.33";

/// Where a test leaves a picture or page of that name, to be looked at after a change of how they look.
pub(crate) fn picture(name: &str) -> PathBuf {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/pictures"));
    std::fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

/// Every recording of this file.
pub(crate) fn all() -> Vec<Recording> {
    vec![checkout(), single_thread(), idle(), idle_with_gaps(), large(), go::service(), go::glance(), check::failed()]
}

/// A C++ service that leaks a thread a request, beside its pool, a timer and a thread that could not be read.
pub(crate) fn checkout() -> Recording {
    let mut r = empty("checkout", APP);
    let start = [frame("start_thread", LIBC, 0x9_1f5c), frame("clone3", LIBC, 0x11_29dc)];
    let cond_wait = [
        frame("__futex_abstimed_wait_common", LIBC, 0x8_db5c),
        frame("pthread_cond_wait", LIBC, 0x9_0a51),
        frame("std::condition_variable::wait(std::unique_lock<std::mutex>&)", LIBSTDCXX, 0xe_1b40),
        Frame {
            inlined: true,
            ..source("orders::Queue<orders::Order>::wait_for_item(std::unique_lock<std::mutex>&)", "src/queue.h", 48)
        },
        source("orders::Queue<orders::Order>::pop()", "src/queue.h", 61),
        source("orders::confirm(orders::Order const&)", "src/confirm.cc", 112),
        frame(
            "std::thread::_State_impl<std::thread::_Invoker<std::tuple<void (*)(orders::Order const&), orders::Order>>>::_M_run()",
            APP,
            0x1_2f40,
        ),
        frame("execute_native_thread_routine", LIBSTDCXX, 0xd_44a3),
    ];
    let spawn = [
        frame("__clone_internal", LIBC, 0x11_2a40),
        frame("pthread_create", LIBC, 0x9_27ed),
        frame(
            "std::thread::_M_start_thread(std::unique_ptr<std::thread::_State, std::default_delete<std::thread::_State>>, void (*)())",
            LIBSTDCXX,
            0xd_4578,
        ),
        source("http::Server::handle(http::Request const&)", "src/server.cc", 203),
        source("http::Server::accept_loop()", "src/server.cc", 148),
        source("main", "src/main.cc", 31),
        frame("__libc_start_call_main", LIBC, 0x2_7249),
        frame("__libc_start_main", LIBC, 0x2_7304),
        frame("_start", APP, 0x3_1a0),
    ];
    let poll = [
        frame("epoll_wait", LIBC, 0x11_1e86),
        source("net::EventLoop::run()", "src/event_loop.cc", 77),
        source("net::io_thread(void*)", "src/event_loop.cc", 20),
    ];
    let sleep =
        [frame("clock_nanosleep", LIBC, 0xd_5afd), frame("", APP, 0x4_77c1), frame("metrics_flush", APP, 0x4_7810)];
    let futex = r.stack(&[&cond_wait[..], &start].concat());
    let spawned = r.stack(&spawn);
    let poll = r.stack(&[&poll[..], &start].concat());
    let sleep = r.stack(&[&sleep[..], &start].concat());
    let cut = r.stack(&[frame("read", LIBC, 0xf_8d3c)]);

    for n in 0..12 {
        let age = 29_100 - 2_400 * n;
        r.park(0, 5168 + n, "confirm", wait(WaitKind::Futex, age), &futex, &spawned);
    }
    for n in 0..168 {
        let age = 11_520_000 - 60_000 * n;
        r.park(1, 5000 + n, "confirm", wait(WaitKind::Futex, age), &futex, &[]);
    }
    for n in 0..8 {
        let name = format!("io-{n}");
        r.park(2, 4243 + n, &name, wait(WaitKind::Poll, 1_200 + n), &poll, &[]);
    }
    let timed = Wait { timeout_ms: Some(10_000), exact: true, ..wait(WaitKind::Sleep, 7_311) };
    r.park(3, 4260, "metrics", timed, &sleep, &[]);
    r.park(4, 4261, "log-reader", wait(WaitKind::Pipe, 2_000_000_000), &cut, &[]);
    if let Some(task) = r.tasks.last_mut() {
        task.stack_end = StackEnd::NoUnwindInfo;
    }
    r.run(4242, "checkout", TaskState::Running);
    r.run(4262, "worker", TaskState::Blocked);
    r.growth = (0..=30)
        .map(|second| GrowthSample {
            at_ms: second * 1_000,
            tasks: 180 + second * 12 / 30,
            parked: 178 + second * 12 / 30,
            ..GrowthSample::default()
        })
        .collect();
    r.ended_waits =
        vec![ended(WaitKind::Socket, 9, 14_250, 4_020, vec![]), ended(WaitKind::Futex, 1, 1_043, 1_043, futex)];
    r.losses = BTreeMap::from([(Loss::CreationStackRateLimited, 2), (Loss::RingFullWait, 1)]);
    r.coverage.blocked = 191;
    r.coverage.stacks_complete = 190;
    r.coverage.creations_known = 12;
    r.coverage.created = 14;
    r.coverage.exited = 2;
    r.finish()
}

/// Ten thousand threads of which few are parked: the others wait for work, or work.
pub(crate) fn crowd() -> Recording {
    let mut r = empty("crowd", "/usr/bin/crowd");
    let start = [source("crowd::worker(int)", "src/worker.cc", 30), frame("clone3", LIBC, 0x11_29dc)];
    let futex = r.stack(&[&[frame("syscall", LIBC, 0x10_4f9d)], &start[..]].concat());
    let poll = r.stack(&[&[frame("epoll_wait", LIBC, 0x11_1e86), frame("", APP, 0x4_77c1)], &start[..]].concat());
    let on = |object: &str, timeout_ms| Wait {
        object: object.into(),
        timeout_ms,
        exact: true,
        ..wait(WaitKind::Futex, 5_000)
    };
    for (id, object) in (1..).zip(["0x5500", "0x7f10", "0x7f10", "0x7f10", "0x5508", "0x5510"]) {
        r.park(0, id, "lock", on(object, None), &futex, &[]);
    }
    r.park(1, 7, "nightly", on("0x6600", Some(28_800_000)), &poll, &[]);
    for id in 10..9_990 {
        r.run(id, "worker", TaskState::Blocked);
        let task = r.tasks.last_mut().unwrap();
        let futex_wait = Wait { age_ms: id % 1_000, ..on(&format!("{id:#x}"), (id > 4_000).then_some(100 + id)) };
        let kinds = [(futex_wait, &futex), (Wait { exact: id % 6 == 0, ..wait(WaitKind::Poll, id % 900) }, &poll)];
        let (wait, stack) = kinds[usize::from(id % 3 == 0)].clone();
        task.wait = Some(wait);
        task.stack = stack[..].into();
        task.stack_end = StackEnd::Complete;
    }
    for id in 9_990..10_005 {
        r.run(id, &format!("busy-{id}"), [TaskState::Running, TaskState::Runnable][usize::from(id % 5 == 0)]);
    }
    r.run(10_005, "gone", TaskState::Exited);
    r.tasks.last_mut().unwrap().stack_end = StackEnd::None;
    r.ended_waits = vec![ended(WaitKind::Futex, 40, 41_000, 1_100, poll)];
    r.coverage.gaps = vec![
        Gap::WaitsNotWatched {
            source: Source::FutexWaits,
            why: "/sys/kernel/tracing cannot be read, since it is not mounted, and mounting it is not permitted".into(),
            switches_instead: false,
        },
        Gap::DebugInformation { module: "crowd".into(), why: "its debug information is damaged".into() },
    ];
    r.finish()
}

/// One parked thread of a program without symbols: everything is singular.
pub(crate) fn single_thread() -> Recording {
    let mut r = empty("tiny", "/opt/tiny");
    let stack = r.stack(&[frame("", "/opt/tiny", 0x1234), frame("", "/opt/tiny", 0x1100)]);
    r.park(0, 77, "tiny", wait(WaitKind::Socket, 60_000), &stack, &[]);
    r.duration_ms = 0;
    r.target.ended = Some("exited".into());
    r.coverage.snapshots = 1;
    r.coverage.blocked = 1;
    r.coverage.stacks_complete = 1;
    r.coverage.events = 0;
    r.coverage.sources = vec![Source::Snapshots];
    r.finish()
}

/// Nothing is parked, and everything was seen.
pub(crate) fn idle() -> Recording {
    let mut r = empty("idle", "/usr/bin/idle");
    for id in 10..13 {
        r.run(id, "worker", TaskState::Runnable);
    }
    r.finish()
}

/// Nothing was seen to be parked, and much was not seen.
pub(crate) fn idle_with_gaps() -> Recording {
    let mut r = idle();
    r.coverage.blocked = 3;
    r.coverage.stacks_complete = 1;
    r.coverage.sources = vec![Source::Snapshots];
    r.coverage.gaps = vec![
        Gap::Text("futex waits were not watched: tracepoints are not permitted here.".into()),
        Gap::Text("creations were not watched: the kernel has no BTF".into()),
    ];
    r.losses = BTreeMap::from([(Loss::StackUnreadable, 2)]);
    for task in &mut r.tasks {
        task.state = TaskState::Blocked;
        task.wait = Some(wait(WaitKind::Poll, 400));
    }
    r
}

/// 500 sites with deep stacks of long names and every kind of wait.
pub(crate) fn large() -> Recording {
    let mut r = empty("warehouse", "/opt/warehouse/bin/warehouse");
    // A fixed sequence that looks random.
    let mut state = 12_345_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut id = 100;
    for site in 0..500_u32 {
        let mut frames = vec![frame("syscall", LIBC, 0x10_4f9d)];
        let module = next(12);
        for depth in (0..4 + next(56)).rev() {
            let branch = if depth < 3 { 0 } else { next(3) };
            frames.push(source(
                &format!(
                    "warehouse::module_{module}::Pipeline<std::map<std::string, std::vector<Item<{branch}>>>, \
                     std::shared_ptr<Context>>::stage_{depth}(std::function<void (Item<{branch}> const&)>, bool)"
                ),
                &format!("src/module_{module}/pipeline.h"),
                u32::try_from(100 + depth).unwrap(),
            ));
        }
        frames.push(frame("start_thread", LIBC, 0x9_1f5c));
        frames.push(frame("clone3", LIBC, 0x11_29dc));
        let stack = r.stack(&frames);
        let spawn = r.stack(&[
            frame("pthread_create", LIBC, 0x9_27ed),
            source(&format!("warehouse::module_{module}::start()"), "src/start.cc", 12),
            source("main", "src/main.cc", 99),
        ]);
        let kind = WaitKind::ALL[usize::try_from(next(3) * next(5) % 9).unwrap()];
        for _ in 0..1 + next(9) * next(9) {
            id += 1;
            let wait = wait(kind, 1_000 + next(1_000_000));
            r.park(site, id, &format!("mod-{module}"), wait, &stack, &spawn);
        }
    }
    r.coverage.creations_known = r.tasks.len() as u64;
    r.finish()
}

/// A wait of that kind and age, whose beginning was not seen.
pub(crate) fn wait(kind: WaitKind, age_ms: u64) -> Wait {
    let (reason, object) = match kind {
        WaitKind::Futex => ("futex wait", "0x7f2a4c000b60"),
        WaitKind::Sleep => ("clock_nanosleep", ""),
        WaitKind::Poll => ("epoll_wait", "fd 5 (anon_inode:[eventpoll])"),
        WaitKind::Socket => ("recvfrom", "fd 9 (socket:[48121])"),
        WaitKind::Pipe => ("read", "fd 3 (pipe:[48122])"),
        WaitKind::File => ("read", "fd 0 (/dev/tty)"),
        WaitKind::Disk => ("fsync in folio_wait_bit_common", "fd 8 (/var/lib/shop/journal)"),
        WaitKind::Event => ("read", "fd 6 (timerfd, fires in 59m 3s)"),
        WaitKind::IoUring => {
            ("io_uring_enter", "fd 4 (io_uring, 0 not taken by the kernel, 0 not taken by the program)")
        }
        WaitKind::Lock => ("flock", "fd 10 (/run/shop.lock)"),
        WaitKind::Ipc => ("semop", "semaphore set 3"),
        WaitKind::PageFault => ("page fault (userfaultfd)", ""),
        WaitKind::Stopped => ("stopped by a signal", ""),
        WaitKind::Child => ("wait4", ""),
        WaitKind::Signal => ("rt_sigtimedwait", ""),
        WaitKind::Other => ("io_getevents", ""),
        WaitKind::ChanReceive => ("chan receive", "chan 0xc000076060"),
        WaitKind::ChanSend => ("chan send", "chan 0xc0000760c0"),
        WaitKind::Select => ("select", "2 channels"),
        WaitKind::Sync => ("sync.Mutex.Lock", "sync.Mutex 0xc000012038"),
        WaitKind::Runtime => ("finalizer wait", ""),
        WaitKind::Cgo => ("cgo call", ""),
    };
    let exact = kind == WaitKind::Futex && age_ms < 11_520_000;
    Wait { object: object.into(), age_ms, exact, ..Wait::unknown(kind, reason) }
}

fn ended(kind: WaitKind, count: u64, total_ms: u64, longest_ms: u64, stack: Vec<u32>) -> EndedWait {
    EndedWait {
        wait: Wait { exact: true, ..wait(kind, longest_ms) },
        count,
        total_ms,
        stack,
        task: 4262,
        name: "worker".into(),
    }
}

fn frame(function: &str, module: &str, address: u64) -> Frame {
    Frame { function: function.into(), module: module.into(), address: format!("{address:#x}"), ..Frame::default() }
}

fn source(function: &str, file: &str, line: u32) -> Frame {
    Frame {
        file: Some(format!("/home/build/checkout/{file}")),
        line: Some(line),
        ..frame(function, APP, 0x1_0000 + u64::from(line) * 16)
    }
}

fn empty(comm: &str, exe: &str) -> Recording {
    Recording {
        schema: SCHEMA.into(),
        tool: Tool { version: "0.1.0".into() },
        target: TargetInfo {
            parent: None,
            pid: 4242,
            ns_pid: None,
            comm: comm.into(),
            exe: exe.into(),
            runtime: "native".into(),
            ended: None,
            execs: 0,
        },
        started: "2026-05-04T10:11:12.345678Z".into(),
        duration_ms: 30_000,
        min_block_ms: 1_000,
        tasks: vec![],
        frames: vec![],
        sites: vec![],
        timers: vec![],
        deadlocks: vec![],
        check: None,
        ended_waits: vec![],
        timeline: vec![],
        growth: vec![],
        coverage: Coverage {
            pauses: vec![Pause {
                what: "futex waits".to_owned(),
                from_ms: 130,
                for_ms: 2_250,
                times: 1,
                percent: 31.4,
            }],
            snapshots: 31,
            events: 1_234,
            sources: vec![Source::Text("lifecycle".into()), Source::Text("futex".into()), Source::Snapshots],
            ..Coverage::default()
        },
        losses: BTreeMap::new(),
        cost: Cost {
            cpu_ms: 41,
            rss_mb: 23.4,
            snapshot_ms: 5.25,
            repeated_snapshot_ms: 1.5,
            programs_percent: Some(0.21),
        },
    }
}

/// Steps to build a recording.
trait Build {
    fn stack(&mut self, frames: &[Frame]) -> Vec<u32>;
    fn park(&mut self, site: u32, id: u64, name: &str, wait: Wait, stack: &[u32], creation: &[u32]);
    fn run(&mut self, id: u64, name: &str, state: TaskState);
    fn finish(self) -> Recording;
}

impl Build for Recording {
    fn stack(&mut self, frames: &[Frame]) -> Vec<u32> {
        let mut index = |frame: &Frame| {
            let known = self.frames.iter().position(|known| known == frame);
            let index = known.unwrap_or_else(|| {
                self.frames.push(frame.clone());
                self.frames.len() - 1
            });
            u32::try_from(index).unwrap()
        };
        frames.iter().map(&mut index).collect()
    }

    fn park(&mut self, site: u32, id: u64, name: &str, wait: Wait, stack: &[u32], creation: &[u32]) {
        if self.sites.len() == site as usize {
            self.sites.push(Site {
                id: format!("{:08x}", u32::wrapping_mul(site + 1, 0x9e37_79b1)),
                task: TaskKind::Thread,
                role: Role::Own,
                kind: wait.kind,
                count: 0,
                parked: 0,
                brief: 0,
                in_slices: 0,
                slice_ms: None,
                created_while_watched: 0,
                oldest_ms: 0,
                oldest_exact: true,
                total_ms: 0,
                wait: wait.reason.to_string(),
                with_timeout: 0,
                shortest_timeout_ms: None,
                stack: stack.into(),
                creation: vec![],
                places: vec![],
                names: vec![name.into()],
                trend: vec![],
                verdict: Verdict::Unjudged,
                course: None,
                finding: None,
                accepted: None,
                ground: None,
                evidence: vec![],
            });
        }
        let known = !creation.is_empty();
        let at = &mut self.sites[site as usize];
        at.count += 1;
        at.parked += 1;
        at.created_while_watched += u64::from(known);
        at.with_timeout += u64::from(wait.timeout_ms.is_some());
        at.shortest_timeout_ms = at.shortest_timeout_ms.into_iter().chain(wait.timeout_ms).min();
        at.total_ms += wait.age_ms;
        if wait.age_ms > at.oldest_ms {
            (at.oldest_ms, at.oldest_exact) = (wait.age_ms, wait.exact);
        }
        if known {
            at.creation = creation.into();
        }
        self.tasks.push(Task {
            name: name.into(),
            lifetime_ms: Some(wait.age_ms + 10),
            wait: Some(wait),
            stack: stack.into(),
            created_by: CreatedBy {
                task: known.then_some(4242),
                alive: None,
                name: if known { "checkout".into() } else { Arc::default() },
                stack: creation.into(),
                known,
                why_unknown: (!known).then(|| "thread is older than the attach".into()),
            },
            site: Some(site),
            ..Task::parked(TaskKind::Thread, id)
        });
    }

    fn run(&mut self, id: u64, name: &str, state: TaskState) {
        let stack_end = if state == TaskState::Blocked { StackEnd::Unstable } else { StackEnd::Running };
        self.tasks.push(Task {
            name: name.into(),
            state,
            wait: (state == TaskState::Blocked).then(|| Wait { exact: true, ..wait(WaitKind::Poll, 12) }),
            stack_end,
            ..Task::parked(TaskKind::Thread, id)
        });
    }

    fn finish(mut self) -> Recording {
        self.tasks.sort_by_key(|task| task.id);
        self.coverage.threads = self.tasks.len() as u64;
        if self.coverage.blocked == 0 {
            let waiting = self.tasks.iter().filter(|task| task.wait.is_some());
            self.coverage.blocked = waiting.count() as u64;
            self.coverage.stacks_complete = self.coverage.blocked;
        }
        self
    }
}
