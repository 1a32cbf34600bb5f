//! The colours of a flame graph: each kind of wait has one, and what leads only to waits of one kind has a tint of it.

use inferno::flamegraph::color::{Color, PaletteMap};

use crate::{
    model::WaitKind,
    report::stacks::{Stacks, wait_label},
};

/// What leads to waits of several kinds.
pub(super) const MIXED: Color = rgb(0xee, 0xee, 0xee);

/// How much of a kind's colour is in its tint; the rest is white.
const TINT_PERCENT: u16 = 42;

/// The full colour of a kind. These are Paul Tol's "light" colours, which were chosen to be told apart with any colour vision
/// and to be written on in black (<https://personal.sron.nl/~pault/>); grey is darker, to stay apart from [`MIXED`].
pub(super) const fn of_kind(kind: WaitKind) -> Color {
    match kind {
        WaitKind::Futex => rgb(0xee, 0x88, 0x66),
        WaitKind::Sleep => rgb(0x77, 0xaa, 0xdd),
        WaitKind::Poll => rgb(0x44, 0xbb, 0x99),
        WaitKind::Socket => rgb(0xbb, 0xcc, 0x33),
        WaitKind::Pipe => rgb(0xee, 0xdd, 0x88),
        WaitKind::File => rgb(0xff, 0xaa, 0xbb),
        WaitKind::Child => rgb(0x99, 0xdd, 0xff),
        WaitKind::Signal => rgb(0xaa, 0xaa, 0x00),
        // For goroutines: the six that, found by search, stay furthest from those above and from each other.
        WaitKind::ChanReceive => rgb(0xaa, 0x88, 0xee),
        WaitKind::ChanSend => rgb(0xee, 0x77, 0xcc),
        WaitKind::Select => rgb(0x00, 0xee, 0xdd),
        WaitKind::Sync => rgb(0x33, 0x99, 0xff),
        WaitKind::Runtime => rgb(0x88, 0xdd, 0x88),
        WaitKind::Cgo => rgb(0x00, 0xbb, 0x77),
        // And for what came later, found the same way among colours that are not too bright.
        WaitKind::Disk => rgb(0xcc, 0x88, 0x11),
        WaitKind::Event => rgb(0x00, 0xaa, 0xbb),
        WaitKind::IoUring => rgb(0xbb, 0xff, 0xdd),
        WaitKind::Lock => rgb(0xff, 0x66, 0x88),
        WaitKind::Ipc => rgb(0x99, 0x99, 0x66),
        WaitKind::PageFault => rgb(0xff, 0xcc, 0xaa),
        WaitKind::Stopped => rgb(0xee, 0xcc, 0xff),
        WaitKind::Other => rgb(0xb4, 0xb4, 0xb4),
    }
}

/// The colours that inferno can give, which it does by text: a wait's own, and [`MIXED`] for all others. See [`Runs`].
pub(super) fn by_text(stacks: &Stacks) -> PaletteMap {
    let mut palette = PaletteMap::default();
    for stack in stacks.iter() {
        for text in stacks.texts(stack) {
            palette.insert(marked(text), MIXED);
        }
    }
    for &kind in WaitKind::ALL {
        palette.insert(wait_label(kind), of_kind(kind));
    }
    // The root of all.
    palette.insert("", MIXED);
    palette
}

/// A text, or a line of them, as inferno is to get it: it takes the usual mark of kernel functions for an order to colour them
/// its way, and does not show it.
pub(super) fn marked(text: &str) -> String {
    text.replace("_[k]", " [k]")
}

/// Which kind of wait lies where, from left to right: a frame that spans a single kind has its tint. The same function may
/// lead to one kind here and to another there, which its text cannot tell.
pub(super) struct Runs {
    /// The kind and where it ends, in units of weight. No two neighbours are of one kind.
    runs: Vec<(WaitKind, u64)>,
}

impl Runs {
    /// From the stacks' kinds and weights in the order in which they are drawn.
    pub(super) fn of(drawn: impl Iterator<Item = (WaitKind, u64)>) -> Self {
        let mut runs: Vec<(WaitKind, u64)> = Vec::new();
        let mut end = 0_u64;
        for (kind, weight) in drawn {
            end = end.saturating_add(weight);
            match runs.last_mut() {
                Some(run) if run.0 == kind => run.1 = end,
                _ => runs.push((kind, end)),
            }
        }
        Self { runs }
    }

    /// The colour of a frame from `start` on that weighs `weight`.
    pub(super) fn color(&self, start: u64, weight: u64) -> Color {
        let first = self.runs.partition_point(|&(_, end)| end <= start);
        match self.runs.get(first) {
            Some(&(kind, end)) if start.saturating_add(weight) <= end => tint(kind),
            _ => MIXED,
        }
    }
}

/// A lighter shade of a kind's colour.
fn tint(kind: WaitKind) -> Color {
    let lighten = |part: u8| {
        let part = (u16::from(part) * TINT_PERCENT + 255 * (100 - TINT_PERCENT)) / 100;
        u8::try_from(part).unwrap_or(u8::MAX)
    };
    let color = of_kind(kind);
    rgb(lighten(color.r), lighten(color.g), lighten(color.b))
}

const fn rgb(r: u8, g: u8, b: u8) -> Color {
    Color { r, g, b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Options, fixture, shown::Shown};

    /// Contrast with black text, as WCAG 2 defines it.
    fn contrast_with_black(color: Color) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        let light = 0.2126 * linear(color.r) + 0.7152 * linear(color.g) + 0.0722 * linear(color.b);
        (light + 0.05) / 0.05
    }

    #[test]
    fn text_can_be_read_on_every_colour() {
        for &kind in WaitKind::ALL {
            assert!(contrast_with_black(of_kind(kind)) > 7.0, "{kind}");
            assert!(contrast_with_black(tint(kind)) > 7.0, "{kind}");
        }
        assert!(contrast_with_black(MIXED) > 7.0);
    }

    /// A colour's place in CIE L*a*b*, where a distance of 2.3 is just visible.
    fn lab(color: Color) -> [f64; 3] {
        let [r, g, b] = [color.r, color.g, color.b].map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        let x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047;
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        let z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883;
        let [x, y, z] = [x, y, z].map(|t| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 });
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn any_two_kinds_can_be_told_apart() {
        let colors: Vec<Color> = WaitKind::ALL.iter().map(|&kind| of_kind(kind)).chain([MIXED]).collect();
        for (place, &a) in colors.iter().enumerate() {
            for &b in &colors[place + 1..] {
                let distance: f64 = lab(a).iter().zip(lab(b)).map(|(a, b)| (a - b).powi(2)).sum();
                assert!(distance.sqrt() > 13.0, "{a:?} and {b:?}: {}", distance.sqrt());
            }
        }
    }

    #[test]
    fn a_frame_has_the_tint_of_its_only_kind() {
        use WaitKind::{Futex, Poll};
        let runs = Runs::of([(Futex, 2), (Futex, 3), (Poll, 1), (Futex, 4)].into_iter());
        assert_eq!(runs.color(0, 5), tint(Futex));
        assert_eq!(runs.color(2, 3), tint(Futex));
        assert_eq!(runs.color(5, 1), tint(Poll));
        assert_eq!(runs.color(6, 4), tint(Futex));
        assert_eq!(runs.color(0, 10), MIXED);
        assert_eq!(runs.color(4, 2), MIXED);
        assert_eq!(runs.color(10, 1), MIXED);
        assert_eq!(runs.color(u64::MAX, u64::MAX), MIXED);
    }

    #[test]
    fn every_text_has_a_colour_that_is_no_random_one() {
        let stacks = Stacks::of(&Shown::of(&fixture::checkout(), &Options::default()), &Options::default());
        let palette = by_text(&stacks);
        assert_eq!(palette.get("epoll_wait"), Some(MIXED));
        assert_eq!(palette.get("[poll]"), Some(of_kind(WaitKind::Poll)));
        assert_eq!(palette.get(""), Some(MIXED));
    }
}
