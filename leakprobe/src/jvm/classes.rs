//! Whether HotSpot has initialized a class of its boot loader: what has not been initialized was never used.
//!
//! The loaders' data is a list, and each has a list of the classes that it has loaded.
//! Source: <https://github.com/openjdk/jdk/blob/jdk-21%2B35/src/hotspot/share/classfile/classLoaderData.hpp#L57>

use super::structs::{Structs, word, word_of};
use crate::target::{MappedFile, Memory};

/// Most loaders, and most classes in all, that are looked at. A JVM has some 900 of the boot loader's; large programs have a few
/// thousand of them, and a loader for each generated class.
const MOST_LOADERS: usize = 1 << 16;
const MOST_CLASSES: usize = 1 << 15;
/// Bytes of a class that are read at once; its fields lie within them.
const MOST_BYTES: u64 = 1 << 10;
/// A class that every JVM has initialized before it runs any code.
const OBJECT: &str = "java/lang/Object";

const FIELDS: [(&str, &str); 9] = [
    ("ClassLoaderDataGraph", "_head"),
    ("ClassLoaderData", "_class_loader"),
    ("ClassLoaderData", "_klasses"),
    ("ClassLoaderData", "_next"),
    ("Klass", "_next_link"),
    ("Klass", "_name"),
    ("InstanceKlass", "_init_state"),
    ("Symbol", "_length"),
    ("Symbol", "_body"),
];
/// As JDK 8 to 12 name it.
const OLD_BODY: (&str, &str) = ("Symbol", "_body[0]");

/// Where the lists begin, and where the fields lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Classes {
    head: u64,
    loader: u64,
    first: u64,
    next_loader: u64,
    next: usize,
    name: usize,
    state: usize,
    length: u64,
    body: u64,
}

impl Classes {
    /// Those of the JVM whose library is `file`.
    ///
    /// # Errors
    /// If it does not say where they are: JDK 8 to 10 do not.
    pub(super) fn of(file: &MappedFile, memory: &impl Memory) -> Result<Self, String> {
        let fields = [&FIELDS[..], &[OLD_BODY]].concat();
        let structs = Structs::read(file, memory, &fields, &[])?;
        let place = |of, field| {
            let offset = structs.offset(of, field)?;
            if offset < MOST_BYTES { Ok(offset) } else { Err(format!("{of}::{field} lies far inside")) }
        };
        let within = |of, field| place(of, field).and_then(|at| usize::try_from(at).map_err(|error| error.to_string()));
        Ok(Self {
            head: structs.address("ClassLoaderDataGraph", "_head")?,
            loader: place("ClassLoaderData", "_class_loader")?,
            first: place("ClassLoaderData", "_klasses")?,
            next_loader: place("ClassLoaderData", "_next")?,
            next: within("Klass", "_next_link")?,
            name: within("Klass", "_name")?,
            state: within("InstanceKlass", "_init_state")?,
            length: place("Symbol", "_length")?,
            body: place("Symbol", "_body").or_else(|_| place(OLD_BODY.0, OLD_BODY.1))?,
        })
    }

    /// Whether the boot loader's class of this name, e.g. `java/lang/VirtualThread`, is initialized: its state is that of a class
    /// that certainly is, whatever number that has in this version. Costs two system calls a class, some ms in all.
    pub(super) fn is_initialized(&self, name: &str, memory: &impl Memory) -> bool {
        let [wanted, object] = self.states([name, OBJECT], memory);
        wanted.is_some() && wanted == object
    }

    fn states<const N: usize>(&self, names: [&str; N], memory: &impl Memory) -> [Option<u8>; N] {
        let mut states = [None; N];
        let mut left = MOST_CLASSES;
        let mut loader = word(memory, self.head).unwrap_or(0);
        for _ in 0..MOST_LOADERS {
            if loader == 0 || left == 0 || states.iter().all(Option::is_some) {
                break;
            }
            if self.is_boot(loader, memory) {
                self.look_through(loader, names, &mut states, &mut left, memory);
            }
            loader = field(memory, loader, self.next_loader).unwrap_or(0);
        }
        states
    }

    /// The boot loader is no object: its handle, or what that leads to, is null.
    fn is_boot(&self, loader: u64, memory: &impl Memory) -> bool {
        let handle = field(memory, loader, self.loader);
        handle.is_some_and(|handle| handle == 0 || word(memory, handle) == Some(0))
    }

    fn look_through<const N: usize>(
        &self,
        loader: u64,
        names: [&str; N],
        states: &mut [Option<u8>; N],
        left: &mut usize,
        memory: &impl Memory,
    ) {
        let size = self.next.max(self.name).max(self.state) + 8;
        let mut bytes = vec![0; size];
        let mut class = field(memory, loader, self.first).unwrap_or(0);
        while class != 0 && *left > 0 && states.iter().any(Option::is_none) {
            *left -= 1;
            if memory.read(class, &mut bytes) != size {
                return;
            }
            let symbol = word_of(&bytes, self.name);
            for (name, state) in names.iter().zip(states.iter_mut()) {
                if state.is_none() && self.is_named(symbol, name, memory) {
                    *state = bytes.get(self.state).copied();
                }
            }
            class = word_of(&bytes, self.next);
        }
    }

    fn is_named(&self, symbol: u64, name: &str, memory: &impl Memory) -> bool {
        let Some(length) = field(memory, symbol, self.length) else { return false };
        if usize::from((length & 0xffff) as u16) != name.len() {
            return false;
        }
        let mut text = vec![0; name.len()];
        let at = symbol.saturating_add(self.body);
        memory.read(at, &mut text) == text.len() && text == name.as_bytes()
    }
}

fn field(memory: &impl Memory, structure: u64, offset: u64) -> Option<u64> {
    word(memory, structure.checked_add(offset)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Memory that holds these bytes at 0x1000 and nothing else.
    struct Bytes(Vec<u8>);

    impl Memory for Bytes {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            let from = address.checked_sub(0x1000).and_then(|from| usize::try_from(from).ok()).unwrap_or(usize::MAX);
            let there = self.0.get(from..).unwrap_or_default();
            let read = there.len().min(into.len());
            into[..read].copy_from_slice(&there[..read]);
            read
        }
    }

    impl Bytes {
        fn put(&mut self, at: u64, word: u64) {
            let at = usize::try_from(at - 0x1000).unwrap();
            self.0[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }

        fn class(&mut self, at: u64, next: u64, state: u8, name: &str) {
            self.put(at, next);
            self.put(at + 8, at + 0x40);
            self.put(at + 16, u64::from(state));
            self.put(at + 0x40, name.len() as u64);
            let body = usize::try_from(at + 0x48 - 0x1000).unwrap();
            self.0[body..body + name.len()].copy_from_slice(name.as_bytes());
        }
    }

    const CLASSES: Classes =
        Classes { head: 0x1000, loader: 0, first: 8, next_loader: 16, next: 0, name: 8, state: 16, length: 0, body: 8 };

    /// A loader that is an object, then the boot loader with two classes.
    fn jvm(state: u8) -> Bytes {
        let mut memory = Bytes(vec![0; 0x600]);
        memory.put(0x1000, 0x1020);
        for (word, at) in [(0x1500, 0x1020), (0x1100, 0x1028), (0x1040, 0x1030), (0x77, 0x1500)] {
            memory.put(at, word);
        }
        memory.put(0x1048, 0x1200);
        memory.class(0x1100, 0, 4, "java/lang/VirtualThread");
        memory.class(0x1200, 0x1300, state, "java/lang/VirtualThread");
        memory.class(0x1300, 0, 4, "java/lang/Object");
        memory
    }

    #[test]
    fn a_class_is_initialized_if_its_state_is_that_of_object() {
        let of = |memory: &Bytes| CLASSES.is_initialized("java/lang/VirtualThread", memory);
        assert!(of(&jvm(4)));
        assert!(!of(&jvm(1)));
        assert!(!CLASSES.is_initialized("java/lang/Thread", &jvm(4)));
    }

    #[test]
    fn what_is_cut_or_goes_round_in_circles_ends() {
        let whole = jvm(4);
        for end in 0..whole.0.len() {
            let _ = CLASSES.is_initialized("x", &Bytes(whole.0[..end].to_vec()));
        }
        let mut circle = jvm(4);
        circle.put(0x1300, 0x1200);
        circle.put(0x1050, 0x1020);
        assert!(!CLASSES.is_initialized("x", &circle));
    }

    proptest! {
        #[test]
        fn whatever_is_in_memory_it_ends(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            CLASSES.is_initialized("x", &Bytes(bytes));
        }
    }
}
