//! The `leakprobe` command.
use leakprobe::probes::*;
fn main() {
    let pid: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
    let t = std::time::Instant::now();
    let mut p = Probes::load(&Options { tgid: pid, min_block: std::time::Duration::from_secs(1), ring_bytes: 8 << 20, events: std::env::args().nth(2).is_some(), futex: true }).unwrap_or_else(|e| panic!("{e}"));
    println!("load {:?} {:?} {:?}", t.elapsed(), p.sources, p.gaps);
    let t = std::time::Instant::now();
    let r = p.threads(100).unwrap();
    println!("threads {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let b = p.briefs(100).unwrap();
    println!("briefs {:?} {}", t.elapsed(), b.len());
    let r0 = &r[0];
    println!("{}", r.len());
    for r in r.iter().take(10) {
        let off = r.rq_clock - r.rq_clock_task;
        let a = r.exec_start + off; let bb = r.last_arrival + r.last_slice;
        let now = r0.reader_clock + (r.ktime - r0.ktime);
        println!("{} st {} cpu {} sw {} syscall {} age_A {:.6} age_B {:.6} diff {}ns off {}", r.tid, r.state, r.on_cpu, r.switches, r.regs[15], (now - a) as f64/1e9, (now-bb) as f64/1e9, a as i64 - bb as i64, off);
    }
    if let Some(mut ring) = p.take_ring() { for _ in 0..20 { std::thread::sleep(std::time::Duration::from_millis(200)); while let Some(i) = ring.next() { let mut regs=[0;21]; println!("{} {:?}", i.len(), event::parse(&i, &mut regs).map(|e| format!("{:?}", e).chars().take(200).collect::<String>())); } } }
    println!("{:?}", p.counters());
}
