//! Records a thread for the tests of the unwinder, which then run anywhere. As root:
//!
//! ```text
//! cargo run -p leakprobe --example record_fixture -- PID TID OUT.json "what the thread was doing"
//! cargo run -p leakprobe --example record_fixture -- PID created OUT.json "what its creator was doing"
//! ```
//!
//! The second form waits for the next thread that the process creates, and records the captured stack of its creator. What is
//! recorded as expected is what comes out now: compare it with another tool's before it is committed.

#[path = "../tests/unwind/fixture.rs"]
mod fixture;

use std::{collections::BTreeSet, env, fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use gimli::{BaseAddresses, EhFrame, EhFrameHdr, LittleEndian, UnwindSection as _};
use leakprobe::{
    probes::{
        Options, Probes, Programs, WaitSource,
        event::{self, Captured, What},
    },
    snapshot::{StackMemory, Unwinder, stack_pointer},
    target::ProcessMemory,
    target::{Code, ModuleId, Modules, elf::Section},
};
use leakprobe_common::arch::{REG_WORDS, Regs};

use fixture::{Bytes, Extract, Fixture, Hex, Sparse, named};

/// Most stack that is recorded: what the kernel's side captures.
const MAX_STACK: usize = 24 << 10;
/// Sections up to this size are recorded whole.
const SMALL: usize = 2 << 10;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [pid, thread, out, what] = &args[..] else {
        bail!("usage: record_fixture PID TID|created OUT.json WHAT");
    };
    let pid: u32 = pid.parse()?;
    let options = Options {
        only: Some(pid),
        min_block: Duration::from_secs(1),
        ring_bytes: 1 << 20,
        events: true,
        waits: WaitSource::Snapshots,
        forks: false,
        kernel_stacks: false,
    };
    let probes = Probes::watch(&Programs::load(&options)?, pid)?;
    let memory = ProcessMemory::new(pid);
    let (regs, mut stack) =
        if thread == "created" { creator(&probes)? } else { at_rest(&probes, &memory, thread.parse()?)? };
    let base = stack_pointer(&regs);
    let mut modules = Modules::of(pid)?;
    let mut unwind =
        |len: usize| Unwinder::default().unwind(&mut modules, &regs, &mut StackMemory::captured(base, &stack[..len])).0;
    let whole = unwind(stack.len());
    let enough = (0..=stack.len()).step_by(8).find(|&len| unwind(len) == whole).context("nothing was read")?;
    stack.truncate(enough);
    let frames = named(&whole, &mut modules);
    #[expect(clippy::print_stdout, reason = "to be compared with another tool's")]
    {
        println!("{frames:#?} {:?}", whole.end);
    }

    let mut lookups: Vec<(ModuleId, u64)> = Vec::new();
    let mut anonymous = Vec::new();
    for (depth, &address) in whole.addresses.iter().enumerate() {
        let lookup = address - u64::from(depth > 0);
        match modules.find(lookup) {
            Some(Code::Module(id)) => lookups.push((id, lookup)),
            Some(Code::Anonymous) => anonymous.push((Hex(lookup & !0xfff), Hex((lookup & !0xfff) + 0x1000))),
            None => {}
        }
    }
    anonymous.sort_by_key(|(start, _)| start.0);
    anonymous.dedup_by_key(|(start, _)| start.0);
    let ids: BTreeSet<ModuleId> = lookups.iter().map(|(id, _)| *id).collect();
    let extracts = ids.into_iter().filter_map(|id| {
        let addresses = lookups.iter().filter(|(of, _)| *of == id).map(|(_, address)| *address);
        extract(&modules, id, addresses)
    });
    let fixture = Fixture {
        what: what.clone(),
        regs: regs.iter().copied().map(Hex).collect(),
        base: Hex(base),
        stack: Bytes(stack),
        anonymous,
        modules: extracts.collect(),
        frames,
        end: whole.end,
    };
    let mut rebuilt = fixture.modules();
    let again = fixture.unwind(&mut Unwinder::default(), &mut rebuilt, enough);
    anyhow::ensure!(again == whole, "the recording gives another stack: {:?}", named(&again, &mut rebuilt));
    fs::write(out, serde_json::to_string_pretty(&fixture)? + "\n")?;
    Ok(())
}

/// Registers and stack of a thread that waits.
fn at_rest(probes: &Probes, memory: &ProcessMemory, tid: u32) -> Result<(Regs, Vec<u8>)> {
    let records = probes.threads(16)?;
    let record = records.iter().find(|record| record.tid == tid).context("no such thread")?;
    anyhow::ensure!(record.state != 0 && record.on_cpu == 0, "the thread runs");
    let mut stack = vec![0; MAX_STACK];
    let read = memory.read(stack_pointer(&record.regs), &mut stack);
    stack.truncate(read);
    Ok((record.regs, stack))
}

/// Registers and stack of the thread that creates the next one.
fn creator(probes: &Probes) -> Result<(Regs, Vec<u8>)> {
    let mut ring = probes.programs().take_ring().context("no ring buffer")?;
    for _ in 0..600 {
        while let Some(record) = ring.next() {
            let mut regs = [0; REG_WORDS];
            if let Ok(event) = event::parse(&record, &mut regs)
                && let What::Created { captured: Captured::Stack(regs, stack), .. } = event.what
            {
                return Ok((*regs, stack.to_vec()));
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("no thread was created within a minute")
}

fn extract(modules: &Modules, id: ModuleId, addresses: impl Iterator<Item = u64>) -> Option<Extract> {
    let module = modules.get(id)?;
    let elf = module.elf.as_ref().ok()?;
    let svmas: Vec<u64> = addresses.map(|address| address.wrapping_sub(module.bias)).collect();
    let both = elf.eh_frame.as_ref().zip(elf.eh_frame_hdr.as_ref());
    let (eh_frame, eh_frame_hdr) = match both.filter(|(frames, _)| frames.data.len() > SMALL) {
        Some((frames, hdr)) => {
            let (frames, hdr) = needed(frames, hdr, &svmas);
            (Some(frames), Some(hdr))
        }
        None => (elf.eh_frame.as_ref().map(all), elf.eh_frame_hdr.as_ref().map(all)),
    };
    let pair = |range: &std::ops::Range<u64>| (Hex(range.start), Hex(range.end));
    Some(Extract {
        name: module.path.rsplit('/').next()?.to_owned(),
        bias: Hex(module.bias),
        mappings: modules.mappings_of(id).map(|range| pair(&range)).collect(),
        text: elf.text.as_ref().map(pair),
        got: elf.got.as_ref().map(pair),
        eh_frame,
        eh_frame_hdr,
        debug_frame: elf.debug_frame.as_ref().map(all),
    })
}

fn all(section: &Section) -> Sparse {
    Sparse { svma: Hex(section.svma.start), size: section.data.len(), pieces: vec![(0, Bytes(section.data.to_vec()))] }
}

/// The frame descriptions that cover `svmas`, and an index of them.
fn needed(frames: &Section, hdr: &Section, svmas: &[u64]) -> (Sparse, Sparse) {
    let bases = BaseAddresses::default().set_eh_frame(frames.svma.start).set_eh_frame_hdr(hdr.svma.start);
    let mut section = EhFrame::new(&frames.data, LittleEndian);
    section.set_address_size(8);
    let mut pieces = BTreeSet::new();
    let mut functions = BTreeSet::new();
    if let Ok(parsed) = EhFrameHdr::new(&hdr.data, LittleEndian).parse(&bases, 8)
        && let Some(table) = parsed.table()
    {
        for &svma in svmas {
            let Ok(fde) = table.fde_for_address(&section, &bases, svma, EhFrame::cie_from_offset) else {
                continue;
            };
            let head = fde.cie();
            pieces.insert((fde.offset(), fde.entry_len() + 4));
            pieces.insert((head.offset(), head.entry_len() + 4));
            functions.insert((fde.initial_address(), frames.svma.start + fde.offset() as u64));
        }
    }
    let piece = |(at, len): (usize, usize)| (at, Bytes(frames.data[at..at + len].to_vec()));
    let mut index = hdr.data[..8].to_vec();
    index.extend((functions.len() as u32).to_le_bytes());
    for address in functions.iter().flat_map(|&(start, at)| [start, at]) {
        index.extend((address.wrapping_sub(hdr.svma.start) as u32).to_le_bytes());
    }
    (
        Sparse {
            svma: Hex(frames.svma.start),
            size: frames.data.len(),
            pieces: pieces.into_iter().map(piece).collect(),
        },
        Sparse { svma: Hex(hdr.svma.start), size: index.len(), pieces: vec![(0, Bytes(index))] },
    )
}
