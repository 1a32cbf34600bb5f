//! What Java waits for, by HotSpot's own functions: its monitors and parkers are made of the C library's condition variables and mutexes,
//! and for a monitor that stays locked it looks again each second.

use crate::model::{Frame, Holder, Primitive};

/// Most frames between the C library's and those that tell.
const MOST_FRAMES: usize = 8;

/// How HotSpot's functions are named, what Java waits for in them, and whether somebody holds that. The innermost decides: a thread that
/// was notified in `Object.wait` waits to enter the monitor again.
///
/// <https://github.com/openjdk/jdk/tree/jdk-17%2B35/src/hotspot/share/runtime> (`objectMonitor.cpp`, `park.hpp`, `thread.cpp`),
/// <https://github.com/openjdk/jdk/tree/jdk-25%2B36/src/hotspot/share/runtime> (`objectMonitor.cpp`, `javaThread.cpp`).
const ROWS: [(&str, &str, Holder); 9] = [
    ("ObjectMonitor::wait", "Object.wait", Holder::Nobody),
    ("ObjectMonitor::vthread_wait", "Object.wait", Holder::Nobody),
    ("ObjectMonitor::", "monitor enter", Holder::NotRecorded),
    ("Parker::park", "LockSupport.park", Holder::Nobody),
    ("Unsafe_Park", "LockSupport.park", Holder::Nobody),
    ("JavaThread::sleep", "Thread.sleep", Holder::Nobody),
    ("SafepointSynchronize::block", "safepoint", Holder::Nobody),
    // Exported, so that they have names even where the others were stripped.
    ("JVM_MonitorWait", "Object.wait", Holder::Nobody),
    ("JVM_Sleep", "Thread.sleep", Holder::Nobody),
];

/// What a thread of Java waits for whose outer frames, of those that wait in the C library, are these; `None` if it waits for something
/// of HotSpot's own, or is none of Java's.
pub(super) fn primitive<'a>(callers: impl IntoIterator<Item = &'a Frame>) -> Option<Primitive> {
    let callers = callers.into_iter().take(MOST_FRAMES);
    let names = callers.take_while(|frame| frame.module_name().starts_with("libjvm.so")).map(|frame| &frame.function);
    names.into_iter().find_map(|name| {
        let (_, name, holder) = ROWS.iter().find(|(begin, ..)| name.starts_with(begin))?;
        Some(Primitive { name, holder: *holder })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Option<&'static str> {
        let frame = |name: &&str| Frame {
            function: (*name).to_owned(),
            module: if *name == "f" { "/srv/app".to_owned() } else { "/usr/lib/jvm/lib/server/libjvm.so".to_owned() },
            ..Frame::default()
        };
        primitive(&names.iter().map(frame).collect::<Vec<_>>()).map(|primitive| primitive.name)
    }

    #[test]
    fn what_java_waits_for() {
        for (names, expected) in [
            // JDK 17.
            (
                &[
                    "os::PlatformEvent::park(long)",
                    "ObjectMonitor::EnterI(JavaThread*)",
                    "ObjectMonitor::enter(JavaThread*)",
                ][..],
                "monitor enter",
            ),
            (&["os::PlatformEvent::park()", "ObjectMonitor::wait(long, bool, JavaThread*)"], "Object.wait"),
            (
                &[
                    "os::PlatformEvent::park()",
                    "ObjectMonitor::ReenterI(JavaThread*, ObjectWaiter*)",
                    "ObjectMonitor::wait(long, bool, JavaThread*)",
                ],
                "monitor enter",
            ),
            (&["Parker::park(bool, long)", "Unsafe_Park"], "LockSupport.park"),
            (&["os::PlatformEvent::park(long)", "JavaThread::sleep(long)", "JVM_Sleep"], "Thread.sleep"),
            // Of a stripped library.
            (&["", "", "", "JVM_MonitorWait"], "Object.wait"),
            // JDK 25.
            (&["PlatformEvent::park()", "ObjectMonitor::enter_internal(JavaThread*)"], "monitor enter"),
            (&["PlatformEvent::park_nanos(long)", "JavaThread::sleep_nanos(long)"], "Thread.sleep"),
            (&["LinuxWaitBarrier::wait(int)", "SafepointSynchronize::block(JavaThread*)"], "safepoint"),
        ] {
            assert_eq!(of(names), Some(expected), "{names:?}");
        }
        for other in [
            &[][..],
            &["", ""],
            &["os::PlatformMonitor::wait(long)", "Monitor::wait(long)", "CompileQueue::get()"],
            &["f", "ObjectMonitor::wait(long, bool, JavaThread*)"],
        ] {
            assert_eq!(of(other), None, "{other:?}");
        }
    }
}
