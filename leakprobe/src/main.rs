//! The `leakprobe` command.
use leakprobe::{probes::*, snapshot::Engine, model::*};
fn main() {
    let pid: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
    let t = std::time::Instant::now();
    let p = Probes::load(&Options { tgid: pid, min_block: std::time::Duration::from_secs(1), ring_bytes: 8 << 20, events: false, futex: true }).unwrap_or_else(|e| panic!("{e}"));
    println!("load {:?}", t.elapsed());
    let mut st = StackTable::default();
    let t = std::time::Instant::now();
    let mut e = Engine::new(pid).unwrap();
    let s = e.snapshot(&p, &mut st).unwrap();
    println!("snapshot {:?} {} {} stacks {} {:?}", t.elapsed(), s.alive.len(), s.changed.len(), st.len(), e.losses());
    for _ in 0..3 {
    let t = std::time::Instant::now();
    let s = e.snapshot(&p, &mut st).unwrap();
    println!("snapshot {:?} {} {} stacks {}", t.elapsed(), s.alive.len(), s.changed.len(), st.len());
    }
    for c in s.changed.iter().take(8) { println!("{c:?} {:x?}", st.get(c.stack)); for a in &st.get(c.stack).unwrap().addresses { let l = e.modules().locate(*a); println!("   {:x} {:x?} {:?}", a, l.map(|l| l.svma), l.and_then(|l| e.modules().get(l.module).map(|m| m.path.clone()))); } }
}
