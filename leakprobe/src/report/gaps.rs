//! What was watched and what was not, in words.

use std::fmt::{Display, Formatter, Result};

use super::coded::write_coded;
use crate::model::{FileLimit, Gap, Source};

/// Most names in one sentence, whatever a recording lists.
const MAX_NAMES: usize = 8;

write_coded!(Gap);
write_coded!(Source);

impl Display for Source {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        out.write_str(match self {
            Self::Snapshots => "snapshots",
            Self::ProcSnapshots => "snapshots from /proc",
            Self::Lifecycle => "thread creation and exit",
            Self::FutexWaits => "futex waits",
            Self::ContextSwitches => "context switches",
            Self::Text(text) => text,
        })
    }
}

impl Display for Gap {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        match self {
            Self::WithoutBpf { events, why } => {
                let lost = if *events { "who created a thread, and waits that ended, are not seen; " } else { "" };
                write!(
                    out,
                    "this is from /proc, without BPF: {lost}ages are lower bounds; stacks end where a register is needed that \
                     /proc does not tell; because: {why}"
                )
            }
            Self::CallsUnreadable { pid, lacking, yama } => {
                write!(out, "system calls and stacks of process {pid} may not be read")?;
                if !lacking.is_empty() {
                    write!(out, "; run with sudo, or grant {}", lacking[..lacking.len().min(MAX_NAMES)].join(" and "))?;
                }
                out.write_str(if *yama { " (kernel.yama.ptrace_scope keeps users from it)" } else { "" })
            }
            Self::WaitsNotWatched { source, why, switches_instead } => {
                let futex = if *source == Source::FutexWaits { "futex " } else { "" };
                write!(out, "{futex}waits that ended were not watched: {why}")?;
                let instead = "; waits of any kind were watched by context switches instead";
                out.write_str(if *switches_instead { instead } else { "" })
            }
            Self::SnapshotsAlone => out.write_str(
                "waits that ended between two snapshots, futex waits among them, were not watched: --probe snapshot",
            ),
            Self::CostEstimated => out.write_str(
                "the cost of leakprobe's programs in the kernel is estimated, since it may not be measured: run with sudo, or \
                 grant CAP_SYS_ADMIN",
            ),
            Self::ChildrenNeedBpf => {
                out.write_str("processes that it created were not followed: that takes BPF")
            }
            Self::ChildrenMissed { ended, unanswered, too_many, limit } => {
                children_missed([*ended, *unanswered, *too_many], *limit, out)
            }
            Self::ChildrenLeftOut { processes, most_mib } => write!(
                out,
                "not in this report: {}; of the {most_mib} MiB that may be kept of all processes together nothing was left for them",
                number(*processes, "child process", "child processes")
            ),
            Self::ProcessUnanswered { pid } => {
                write!(out, "process {pid} did not answer, and is not in this report: reading it came to no end")
            }
            Self::GoRuntime { .. }
            | Self::GoFunctions { .. }
            | Self::GoInlinedCalls { .. }
            | Self::GoWaitReasons { .. }
            | Self::GoNewer { .. }
            | Self::GoUnchecked { .. }
            | Self::GoThreads
            | Self::GoPlugins
            | Self::GoTimers { .. }
            | Self::GoTurnover
            | Self::GoRuntimesLeftOut { .. } => of_go(self, out),
            Self::JvmCode { why } => write!(
                out,
                "stacks through compiled Java methods may lack some of them, unless Java was started with \
                 -XX:+PreserveFramePointer: the JVM does not tell of its code: {why}"
            ),
            Self::DotNetFrames => out.write_str(
                "stacks through .NET's code may lack methods: they are followed by frame pointers, which not all code that was \
                 compiled ahead keeps; with DOTNET_ReadyToRun=0 there is none of that",
            ),
            Self::Sockets { why } => {
                write!(out, "idle times of sockets and who is at their other end are not known: {why}")
            }
            Self::UnlistedSockets { sockets } => write!(
                out,
                "nothing is known of {}: not connected, or of another network namespace than the threads that wait",
                number(*sockets, "socket", "sockets")
            ),
            Self::PeersUnread { processes } => write!(
                out,
                "who is at the other end of pipes and sockets was not looked for in {} that may not be looked into",
                number(*processes, "process", "processes")
            ),
            Self::PeersCut => out.write_str(
                "the search for who is at the other end of pipes and sockets took too long and was broken off",
            ),
            Self::UnloadedCode { threads, path } => write!(
                out,
                "{} to return to code of {path}, which has been unloaded: stacks show it as it was",
                number(*threads, "thread is", "threads are")
            ),
            Self::FileUnanswered { path, filesystem } => {
                write!(out, "no names, and stacks cut, in {path}: it does not answer ({filesystem})")
            }
            Self::NarrowStacks => out.write_str("no stacks of 32-bit code: only those of 64-bit code are read"),
            Self::KernelNames { why } => write!(out, "no names of kernel functions: {why}"),
            Self::JitNames { why } => write!(out, "no names of JIT code: {why}"),
            Self::DebugInformation { module, why } => write!(out, "no lines or inlined functions in {module}: {why}"),
            Self::FilesCorrupt { file, why, more } => {
                let more = if *more == 0 { String::new() } else { format!(" and {}", number(*more, "other file", "other files")) };
                write!(out, "not all names, or stacks cut, in {file}{more}: corrupt ELF: {why}")
            }
            Self::FilesBeyondBudget { files, more, limit } => {
                let more = if *more == 0 { String::new() } else { format!(" and {more} more") };
                let limit = match limit {
                    FileLimit::MemoryMib(mib) => format!("the limit of {mib} MiB of memory for files of the target"),
                    FileLimit::Kept => "the memory for what is kept of targets".to_owned(),
                    FileLimit::ReadMib(mib) => format!("the limit of {mib} MiB read of files of the target"),
                    FileLimit::CpuS(seconds) => format!("the limit of {seconds} s of CPU time for files of the target"),
                    FileLimit::OpenFiles(most) => format!("the limit of {most} open files"),
                };
                write!(out, "not read, or not completely: {}{more}: {limit} of one run is used up", files[..files.len().min(MAX_NAMES)].join(", "))
            }
            Self::Text(text) => out.write_str(text),
        }
    }
}

fn of_go(gap: &Gap, out: &mut Formatter<'_>) -> Result {
    match gap {
        Gap::GoRuntime { why } | Gap::GoFunctions { why } => out.write_str(why),
        Gap::GoInlinedCalls { path } => {
            write!(out, "inlined calls of {path} are not shown: their table was not found")
        }
        Gap::GoWaitReasons { path } => {
            write!(out, "the names of wait reasons were not found in {path}: waits are shown by number")
        }
        Gap::GoNewer { version, known_minor } => write!(
            out,
            "{version} is newer than leakprobe knows (1.{known_minor}): where its goroutines keep what is shown was found out from \
             the process itself; channels, locks, timers and descriptors are read as in 1.{known_minor}, which was not checked"
        ),
        Gap::GoUnchecked { path, version } => {
            write!(out, "{path} has too few goroutines to check how they are laid out; it is taken as {version} has it")
        }
        Gap::GoThreads => {
            out.write_str("which thread runs which goroutine is not known: the runtime's list of threads was not found")
        }
        Gap::GoPlugins => out
            .write_str("the list of Go plugins could not be followed to its end: functions of some may have no names"),
        Gap::GoTimers { path } => {
            write!(out, "timers of {path} that no goroutine waits for are not counted: its processors were not found")
        }
        Gap::GoTurnover => out.write_str(
            "goroutines that came and went between two looks are not counted: the runtime's own counter was not found",
        ),
        Gap::GoRuntimesLeftOut { found, read } => write!(out, "of {found} Go runtimes {read} are read"),
        _ => Ok(()),
    }
}

fn children_missed([ended, unanswered, too_many]: [u64; 3], limit: u64, out: &mut Formatter<'_>) -> Result {
    let processes = |n: u64| number(n, "child process", "child processes");
    let ended = (ended > 0).then(|| format!("{} ended before leakprobe could look", processes(ended)));
    let unanswered = (unanswered > 0).then(|| format!("{} did not answer", processes(unanswered)));
    let too_many = (too_many > 0).then(|| {
        format!("{} came while {limit} processes, the most at once, were watched already", processes(too_many))
    });
    let parts: Vec<String> = ended.into_iter().chain(unanswered).chain(too_many).collect();
    write!(out, "not all children were watched: {}", parts.join(", "))
}

/// `1 process`, `12 processes`.
fn number(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Gap {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn gaps_are_written_as_codes_with_their_sentences_beside_them() {
        let gap = Gap::UnloadedCode { threads: 2, path: "/lib/a.so".into() };
        let written = serde_json::to_string(&gap).unwrap();
        assert_eq!(
            written,
            "{\"code\":\"unloaded-code\",\"threads\":2,\"path\":\"/lib/a.so\",\"text\":\"2 threads are to return to code of \
             /lib/a.so, which has been unloaded: stacks show it as it was\"}"
        );
        let limit = FileLimit::CpuS(9);
        for gap in [gap, Gap::GoThreads, Gap::FilesBeyondBudget { files: vec!["/a".into()], more: 0, limit }] {
            assert_eq!(read(&serde_json::to_string(&gap).unwrap()), gap);
        }
    }

    #[test]
    fn of_other_versions_the_sentence_is_read() {
        let old = read("\"no names of kernel functions: it is so\"");
        assert_eq!(old.to_string(), "no names of kernel functions: it is so");
        assert_eq!(serde_json::to_string(&old).unwrap(), "\"no names of kernel functions: it is so\"");
        let newer = read("{\"code\":\"of-another-version\",\"n\":[1],\"text\":\"something was not seen\"}");
        assert_eq!(newer, Gap::Text("something was not seen".into()));
        let other_fields = read("{\"code\":\"unloaded-code\",\"thread\":2,\"text\":\"some code is gone\"}");
        assert_eq!(other_fields, Gap::Text("some code is gone".into()));
        assert!(serde_json::from_str::<Gap>("{\"code\":\"of-another-version\"}").is_err());
        assert_eq!(serde_json::from_str::<Source>("\"futex\"").unwrap(), Source::Text("futex".into()));
    }

    #[test]
    fn processes_that_are_not_in_the_report_are_told() {
        let left_out = Gap::ChildrenLeftOut { processes: 1, most_mib: 192 };
        assert_eq!(
            left_out.to_string(),
            "not in this report: 1 child process; of the 192 MiB that may be kept of all processes together nothing was left for them"
        );
        assert_eq!(
            Gap::ProcessUnanswered { pid: 7 }.to_string(),
            "process 7 did not answer, and is not in this report: reading it came to no end"
        );
    }

    #[test]
    fn children_that_were_missed_are_counted_by_reason() {
        let gap = Gap::ChildrenMissed { ended: 1, unanswered: 3, too_many: 2, limit: 64 };
        assert_eq!(
            gap.to_string(),
            "not all children were watched: 1 child process ended before leakprobe could look, 3 child processes did not \
             answer, 2 child processes came while 64 \
             processes, the most at once, were watched already"
        );
    }
}
