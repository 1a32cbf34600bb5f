//! Locks in memory that processes share: who holds them is named across processes, and a holder is called exited only if it is sure
//! that no one can release the lock.

use std::process::Command;

use leakprobe::model::{Owner, Recording, Relation, TaskState, Verdict, Wait};

use crate::{
    places::in_new_pid_namespace,
    support::{Program, Variant, children_of, proc_status, program_path, settle, snapshot, task, wait_for},
};

/// What a thread of `shared_locks.c` waits for, and what is thought of it.
#[derive(Debug)]
struct Seen {
    /// The holder's process, as we see it; 0 if it is none.
    holder: u64,
    wait: Wait,
    verdict: Verdict,
}

impl Seen {
    fn of(recording: &Recording, tid: u64, holder: u64) -> Self {
        let task = task(recording, tid);
        let verdict = task.site.map_or(Verdict::Unjudged, |site| recording.sites[site as usize].verdict);
        Self { holder, wait: task.wait.clone().unwrap_or_else(|| panic!("it does not wait: {task:?}")), verdict }
    }

    /// Runs the program with these words.
    fn by(words: &str) -> Self {
        let words: Vec<&str> = words.split(' ').collect();
        let mut program = Program::ready_with("shared_locks", Variant::Pie, &words);
        let lines = program.passed();
        let line = lines.iter().find(|line| line.starts_with("wait ")).unwrap();
        let field = |key: &str| Program::field(line, key) as u64;
        let pid = field("pid") as u32;
        settle(pid);
        Self::of(&snapshot(pid), field("tid"), field("holder"))
    }

    fn note(&self) -> &str {
        assert_eq!(self.wait.owner, None, "{self:?}");
        self.wait.owner_note.as_deref().unwrap_or_else(|| panic!("{self:?}"))
    }

    #[track_caller]
    fn is_held_by(&self, name: &str, process: u64) -> &Owner {
        let owner = self.wait.owner.as_deref().unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!((owner.name.as_str(), owner.process), (name, Some(process as u32)), "{self:?}");
        assert_eq!((owner.relation, owner.state), (Relation::Holds, None), "{self:?}");
        assert_eq!(self.verdict, Verdict::Unjudged, "{self:?}");
        owner
    }

    #[track_caller]
    fn is_proven(&self) {
        let owner = self.wait.owner.as_deref().unwrap_or_else(|| panic!("{self:?}"));
        let is_gone = owner.relation == Relation::NoOne || owner.state == Some(TaskState::Exited);
        assert!(is_gone && owner.process.is_none(), "{self:?}");
        assert_eq!(self.verdict, Verdict::Proven, "{self:?}");
    }

    #[track_caller]
    fn is_not_found(&self) {
        assert!(self.note().contains("which was not found"), "{self:?}");
        assert_eq!(self.verdict, Verdict::Unjudged, "{self:?}");
    }
}

#[test]
fn the_holder_in_another_process_is_named() {
    for lock in ["plain", "recursive", "errorcheck", "robust", "pi", "robust pi", "rwlock"] {
        let seen = Seen::by(lock);
        assert_eq!(seen.is_held_by("lock-holder", seen.holder).task, seen.holder, "{lock}");
    }
    for lock in ["plain thread", "pi thread"] {
        let seen = Seen::by(lock);
        let owner = seen.is_held_by("lock-holder", seen.holder);
        assert_ne!(owner.task, seen.holder, "{lock}: it is not the first thread");
    }
}

#[test]
fn a_holder_that_has_exited_is_proven_only_if_no_one_else_can_release_the_lock() {
    for lock in ["plain dead", "recursive dead", "errorcheck dead", "rwlock dead", "errorcheck dead bystander"] {
        Seen::by(lock).is_proven();
    }
    // Whoever maps a plain one can unlock it.
    Seen::by("plain dead bystander").is_not_found();
    // The holder lives, and may map the memory again.
    Seen::by("plain unmaps").is_not_found();
    // The wait ends by itself.
    let timed = Seen::by("plain timed dead");
    assert!(timed.note().ends_with("which has exited"), "{timed:?}");
    assert_eq!(timed.verdict, Verdict::Unjudged);
}

/// The kernel refuses to wait for it, and the C library then parks the thread for good.
#[test]
fn a_pi_mutex_whose_holder_was_gone_before_is_never_had() {
    let seen = Seen::by("pi dead");
    seen.is_proven();
    assert_eq!(seen.wait.owner.unwrap().relation, Relation::NoOne);
}

/// Its id there is another thread's here: so the kernel itself waits for the wrong one.
#[test]
fn a_holder_in_a_pid_namespace_of_its_own_is_likely_the_one() {
    for lock in ["plain inner", "robust inner", "pi inner", "robust pi inner"] {
        let seen = Seen::by(lock);
        let expected = format!("likely held by lock-holder (process {}), which is thread id 1 in", seen.holder);
        assert!(seen.note().starts_with(&expected), "{seen:?}");
        assert_eq!(seen.verdict, Verdict::Unjudged, "{seen:?}");
    }
    // There is a thread with that id, of which it is not known that it has nothing to do with it.
    Seen::by("plain inner dead").is_not_found();
}

#[test]
fn ids_are_those_of_the_pid_namespace_in_which_all_of_them_are() {
    for (words, is_dead) in [(&["robust"][..], false), (&["pi", "thread"], false), (&["plain", "dead"], true)] {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "\"$0\" \"$@\"; exit 0"]).arg(program_path("shared_locks", Variant::Pie)).args(words);
        let mut outside = Program::start(in_new_pid_namespace(&mut command));
        outside.expect("ready");
        let pid = wait_for("the program inside", || children_of(outside.pid()).first().copied());
        settle(pid);
        let recording = snapshot(pid);
        let waiter = crate::support::task_named(&recording, "waiter").id;
        let seen = Seen::of(&recording, waiter, 0);
        if is_dead {
            seen.is_proven();
        } else {
            let holder = children_of(pid)[0];
            assert_eq!(proc_status(holder, "NSpid").unwrap().split_whitespace().last(), Some("2"));
            let owner = seen.is_held_by("lock-holder", u64::from(holder));
            assert_eq!(owner.task == u64::from(holder), !words.contains(&"thread"), "{seen:?}");
        }
        outside.kill(libc::SIGKILL);
        // SAFETY: two integers; it is the first process of its namespace, and has not been waited for by the one that was killed.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    }
}

/// The child of a thread that holds a lock holds its copy; another thread's copy is lost. Which it was, no one can see.
#[test]
fn what_was_held_when_the_process_was_forked_is_not_proven() {
    Seen::by("plain forked").is_not_found();
    // Such a lock compares ids, and the child has another one.
    Seen::by("errorcheck forked").is_proven();
}

#[test]
fn three_processes_that_share_two_pi_mutexes() {
    let mut program = Program::ready("shared_pi", Variant::Pie);
    let lines = program.passed();
    let line = |prefix: &'static str| lines.iter().filter(move |line| line.starts_with(prefix));
    let processes = line("processes ").next().unwrap();
    let [second, third] = ["second", "third"].map(|key| Program::field(processes, key) as u64);
    for pid in [program.pid(), second as u32] {
        settle(pid);
    }
    let recording = snapshot(program.pid());
    let waiters: Vec<&String> = line("wait ").collect();
    assert_eq!(waiters.len(), 2, "{lines:?}");
    for waiter in waiters {
        let (name, holder) = if Program::field(waiter, "is_two") == 0 { ("second", second) } else { ("third", third) };
        let seen = Seen::of(&recording, Program::field(waiter, "tid") as u64, holder);
        assert_eq!(seen.is_held_by(name, holder).task, holder);
    }
    // The one in the middle, which was forked.
    let recording = snapshot(second as u32);
    assert_eq!(Seen::of(&recording, second, third).is_held_by("third", third).task, third);
}

#[test]
fn a_file_in_memory_is_the_same_wherever_it_is_mapped() {
    let mut program = Program::ready("shared_memfd", Variant::Pie);
    let lines = program.passed();
    let field = |prefix: &str, key: &str| {
        Program::field(lines.iter().find(|line| line.starts_with(prefix)).unwrap(), key) as u64
    };
    let holder = field("held ", "by");
    assert_ne!(field("wait ", "object"), field("holder ", "object"), "{lines:?}");
    settle(program.pid());
    let seen = Seen::of(&snapshot(program.pid()), field("wait ", "tid"), holder);
    assert_eq!(seen.is_held_by("memfd-holder", holder).task, holder);
}
