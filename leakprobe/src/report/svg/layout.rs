//! Where the nodes and edges of a wait-for graph go.
//!
//! Each node waits for one other at most. So whatever hangs together is a tree that leads to one node, or to one circle; and a
//! circle without one of its edges is a part of a tree, too. A tree can be drawn in layers without a crossing: a node's layer is
//! its distance from the end, and those who wait for one node stand together. The edge that was taken out of a circle goes around
//! all of it: the nodes of a circle lie at the rim, so that nothing is in its way.
//!
//! Layers go from left to right, or from top to bottom where that is too wide: a long chain.

use std::collections::BTreeMap;

/// Between the layers, beside what stands at an edge; and between nodes of a layer.
const CURVE: f64 = 48.0;
const BETWEEN: f64 = 14.0;
/// From top to bottom what stands at an edge is beside it, so that it takes no room between layers but its height.
const LABEL_HEIGHT: f64 = 16.0;
/// Between a circle and the edge that leads back around it.
const AROUND: f64 = 22.0;
/// Between pieces that do not hang together.
const APART: f64 = 36.0;
/// Between an edge and what stands at it.
const GAP: f64 = 7.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// A rectangle by its middle.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Area {
    pub(super) middle: Point,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// The way of an edge.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// Straight on from the first to the second point, and from there in a curve with two control points to the last.
    Curve([Point; 5]),
    /// From corner to corner.
    Corners([Point; 4]),
}

/// Where a text stands that belongs to an edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Label {
    pub(super) at: Point,
    pub(super) anchor: &'static str,
}

#[derive(Debug)]
pub(super) struct Layout {
    /// Of each node.
    pub(super) nodes: Vec<Area>,
    /// Of each node the edge that leaves it, if one does.
    pub(super) edges: Vec<Option<(Way, Label)>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A node to be placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) width: f64,
    pub(super) height: f64,
    /// Whom it waits for.
    pub(super) next: Option<usize>,
    /// Width of what stands at that edge.
    pub(super) label: f64,
}

/// Places `items`; no wider than `room`, if that can be.
pub(super) fn layout(items: &[Item], room: f64) -> Layout {
    let mut layout =
        Layout { nodes: vec![Area::default(); items.len()], edges: vec![None; items.len()], width: 0.0, height: 0.0 };
    // In rows, as words in a text.
    let (mut x, mut y, mut row) = (0.0, 0.0, 0.0_f64);
    for piece in pieces(items) {
        let across = piece.placed(items, Direction::Right);
        let piece = if across.width <= room { across } else { narrower(across, piece.placed(items, Direction::Down)) };
        if x > 0.0 && x + piece.width > room {
            (x, y, row) = (0.0, y + row + APART, 0.0);
        }
        layout.width = layout.width.max(x + piece.width);
        layout.height = layout.height.max(y + piece.height);
        row = row.max(piece.height);
        let corner = Point { x, y };
        x += piece.width + APART;
        piece.put(&mut layout, corner);
    }
    layout
}

fn narrower(a: Placed, b: Placed) -> Placed {
    if b.width < a.width { b } else { a }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Right,
    Down,
}

/// What hangs together: its nodes by layer, the end being layer 0, and by lane within all layers.
struct Piece {
    places: Vec<Place>,
    /// How many of the last of `places` are its circle, from the end of the tree on; 0 if it has none.
    circle: usize,
}

struct Place {
    item: usize,
    layer: usize,
    lane: f64,
}

/// All that hangs together, in the order of their first nodes.
fn pieces(items: &[Item]) -> Vec<Piece> {
    let next = |place: usize| items.get(place).and_then(|item| item.next).filter(|&next| next < items.len());
    // By which walk a node was reached; the end of each walk is that of an earlier one, a node that waits for nobody, or a circle.
    let mut walks = vec![usize::MAX; items.len()];
    let mut ends: Vec<usize> = Vec::new();
    let mut circles: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for start in 0..items.len() {
        let mut at = start;
        let mut last = None;
        while walks[at] == usize::MAX {
            walks[at] = start;
            last = Some(at);
            match next(at) {
                Some(next) => at = next,
                None => {
                    ends.push(at);
                    last = None;
                    break;
                }
            }
        }
        if last.is_some() && walks[at] == start {
            let mut circle = vec![at];
            circle.extend(std::iter::successors(next(at), |&at| next(at)).take_while(|&other| other != at));
            // From its first node to the one that waits for it, which is where the tree ends.
            let first = circle.iter().enumerate().min_by_key(|&(_, node)| node).map_or(0, |(place, _)| place);
            circle.rotate_left(first);
            circle.reverse();
            ends.extend(circle.first());
            circles.insert(circle[0], circle);
        }
    }
    let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    for node in (0..items.len()).filter(|node| !circles.contains_key(node)) {
        if let Some(next) = next(node) {
            waiters[next].push(node);
        }
    }
    let mut pieces: Vec<Piece> =
        ends.iter().map(|end| piece(*end, circles.get(end).map_or(&[][..], Vec::as_slice), &waiters)).collect();
    pieces.sort_by_key(|piece| piece.places.iter().map(|place| place.item).min());
    pieces
}

/// The tree that leads to `end`, whose `circle` begins there, against the direction of its edges.
fn piece(end: usize, circle: &[usize], waiters: &[Vec<usize>]) -> Piece {
    let mut places: Vec<Place> = Vec::new();
    let mut lanes = 0.0;
    // The nodes of a circle are placed last; in which order trees hang on it keeps edges from crossing.
    let roots: Vec<usize> = if circle.is_empty() { vec![end] } else { circle.to_vec() };
    for (depth, &root) in roots.iter().enumerate() {
        let mut open = vec![(root, depth, false)];
        let mut done: Vec<(usize, f64)> = Vec::new(); // layer and lane of nodes whose next is to come
        while let Some((node, layer, is_seen)) = open.pop() {
            if !is_seen {
                open.push((node, layer, true));
                let own = waiters[node].iter().rev().filter(|waiter| !circle.contains(waiter));
                open.extend(own.map(|&waiter| (waiter, layer + 1, false)));
                continue;
            }
            if circle.contains(&node) {
                continue;
            }
            let behind = done.iter().rposition(|&(other, ..)| other <= layer).map_or(0, |place| place + 1);
            let lane = match (done.get(behind), done.last()) {
                (Some(first), Some(last)) => f64::midpoint(first.1, last.1),
                _ => {
                    lanes += 1.0;
                    lanes - 1.0
                }
            };
            done.truncate(behind);
            done.push((layer, lane));
            places.push(Place { item: node, layer, lane });
        }
    }
    places.extend(circle.iter().enumerate().map(|(layer, &item)| Place { item, layer, lane: lanes }));
    Piece { places, circle: circle.len() }
}

/// A piece with all measures, from its own left upper corner on.
struct Placed {
    nodes: Vec<(usize, Area)>,
    edges: Vec<(usize, Way, Label)>,
    width: f64,
    height: f64,
}

impl Placed {
    fn put(self, layout: &mut Layout, corner: Point) {
        let moved = |point: Point| Point { x: point.x + corner.x, y: point.y + corner.y };
        for (item, area) in self.nodes {
            layout.nodes[item] = Area { middle: moved(area.middle), ..area };
        }
        for (item, way, label) in self.edges {
            let way = match way {
                Way::Curve(points) => Way::Curve(points.map(moved)),
                Way::Corners(points) => Way::Corners(points.map(moved)),
            };
            layout.edges[item] = Some((way, Label { at: moved(label.at), ..label }));
        }
    }
}

impl Piece {
    /// Measures: `along` is the direction from layer to layer, `across` that from lane to lane.
    fn placed(&self, items: &[Item], direction: Direction) -> Placed {
        let size = |item: usize| {
            let Item { width, height, .. } = items[item];
            if direction == Direction::Right { (width, height) } else { (height, width) }
        };
        let layers = self.places.iter().map(|place| place.layer + 1).max().unwrap_or(0);
        let mut thickness = vec![0.0_f64; layers];
        let mut pitch = 0.0_f64;
        let mut label = 0.0_f64;
        for place in &self.places {
            let (along, across) = size(place.item);
            thickness[place.layer] = thickness[place.layer].max(along);
            pitch = pitch.max(across + BETWEEN);
            label = label.max(items[place.item].label);
        }
        let stub = if direction == Direction::Right { label + 2.0 * GAP } else { LABEL_HEIGHT };
        let between = stub + CURVE;
        // The end is where edges lead to: on the right, or at the bottom.
        let whole: f64 = thickness.iter().sum::<f64>() + between * (layers.saturating_sub(1)) as f64;
        let mut middles = Vec::with_capacity(layers);
        let mut rest = whole;
        for layer in &thickness {
            middles.push(rest - layer / 2.0);
            rest -= layer + between;
        }
        let lanes = self.places.iter().map(|place| place.lane + 1.0).fold(0.0, f64::max);
        let mut far = lanes * pitch - BETWEEN;
        let point = |along: f64, across: f64| match direction {
            Direction::Right => Point { x: along, y: across },
            Direction::Down => Point { x: across, y: along },
        };
        let at: BTreeMap<usize, (f64, f64)> = self
            .places
            .iter()
            .map(|place| (place.item, (middles[place.layer], place.lane * pitch + (pitch - BETWEEN) / 2.0)))
            .collect();
        let on_circle = &self.places[self.places.len() - self.circle..];
        let is_pair = self.circle == 2;
        let mut edges = Vec::new();
        for place in &self.places {
            let Some(next) = items[place.item].next.filter(|next| at.contains_key(next)) else { continue };
            let ((from, from_across), (to, to_across)) = (at[&place.item], at[&next]);
            let ((from_along, from_size), (to_along, to_size)) = (size(place.item), size(next));
            let goes_back = on_circle.first().is_some_and(|end| end.item == place.item);
            let is_of_circle = on_circle.iter().any(|other| other.item == place.item);
            if goes_back && !is_pair {
                // Around: out at the rim, back along it, and in again.
                let (start, end) =
                    if next == place.item { (from + from_along / 4.0, from - from_along / 4.0) } else { (from, to) };
                let rim = far + AROUND;
                let corners = [
                    point(start, from_across + from_size / 2.0),
                    point(start, rim),
                    point(end, rim),
                    point(end, to_across + to_size / 2.0),
                ];
                let middle = f64::midpoint(start, end);
                let label = match direction {
                    Direction::Right => Label { at: Point { x: middle, y: rim + 2.0 * GAP + 1.0 }, anchor: "middle" },
                    Direction::Down => Label { at: Point { x: rim + GAP, y: middle }, anchor: "start" },
                };
                edges.push((place.item, Way::Corners(corners), label));
                continue;
            }
            // Two that wait for each other have an edge each way, beside each other.
            let (leaves, arrives) = match (is_pair, goes_back, is_of_circle) {
                (true, true, _) => (1.0 / 5.0, 1.0 / 5.0),
                (true, false, true) => (-1.0 / 5.0, -1.0 / 5.0),
                (true, false, false) if on_circle.iter().any(|other| other.item == next) => (0.0, -2.0 / 5.0),
                _ => (0.0, 0.0),
            };
            let sign = if goes_back { -1.0 } else { 1.0 };
            // Edges of a pair are parallel, whatever the sizes of the two.
            let least = if is_pair && is_of_circle { from_size.min(to_size) } else { 0.0 };
            let (leaving, arriving) = match is_pair && is_of_circle {
                true => (from_across + leaves * least, to_across + arrives * least),
                false => (from_across + leaves * from_size, to_across + arrives * to_size),
            };
            let start = from + sign * from_along / 2.0;
            let end = to - sign * to_along / 2.0;
            let turn = middles[place.layer] + sign * (thickness[place.layer] / 2.0 + stub);
            let bend = f64::midpoint(turn, end);
            let way = [
                point(start, leaving),
                point(turn, leaving),
                point(bend, leaving),
                point(bend, arriving),
                point(end, arriving),
            ];
            let label = match (direction, goes_back) {
                (Direction::Right, false) => Label { at: Point { x: start + GAP, y: leaving - 4.0 }, anchor: "start" },
                (Direction::Right, true) => {
                    Label { at: Point { x: start - GAP, y: leaving + 2.0 * GAP }, anchor: "end" }
                }
                (Direction::Down, false) => {
                    Label { at: Point { x: leaving + GAP, y: start + 2.0 * GAP }, anchor: "start" }
                }
                (Direction::Down, true) => Label { at: Point { x: leaving + GAP, y: start - GAP }, anchor: "start" },
            };
            edges.push((place.item, Way::Curve(way), label));
        }
        if self.circle > 0 && !is_pair {
            far += AROUND + if direction == Direction::Right { 3.0 * GAP } else { label + 2.0 * GAP };
        }
        let nodes = self.places.iter().map(|place| {
            let (along, across) = at[&place.item];
            let Item { width, height, .. } = items[place.item];
            (place.item, Area { middle: point(along, across), width, height })
        });
        let corner = point(whole, far);
        Placed { nodes: nodes.collect(), edges, width: corner.x, height: corner.y }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items(nexts: &[Option<usize>]) -> Vec<Item> {
        let item = |(place, &next): (usize, &Option<usize>)| Item {
            width: 110.0 + (place % 5) as f64 * 40.0,
            height: 24.0 + (place % 3) as f64 * 15.0,
            next,
            label: if place % 2 == 0 { 40.0 } else { 80.0 },
        };
        nexts.iter().enumerate().map(item).collect()
    }

    fn meet(a: &Area, b: &Area) -> bool {
        let near = |a: f64, b: f64, sizes: f64| (a - b).abs() < sizes / 2.0;
        near(a.middle.x, b.middle.x, a.width + b.width) && near(a.middle.y, b.middle.y, a.height + b.height)
    }

    /// Points of an edge, near enough to each other that none of the nodes is stepped over.
    fn along(way: &Way) -> Vec<Point> {
        let line = |from: Point, to: Point| {
            (0..=64)
                .map(move |n| f64::from(n) / 64.0)
                .map(move |t| Point { x: from.x + (to.x - from.x) * t, y: from.y + (to.y - from.y) * t })
        };
        match way {
            Way::Corners([a, b, c, d]) => line(*a, *b).chain(line(*b, *c)).chain(line(*c, *d)).collect(),
            Way::Curve([start, a, b, c, d]) => {
                let curve = (0..=64).map(|n| f64::from(n) / 64.0).map(|t| {
                    let u = 1.0 - t;
                    let at = |of: fn(&Point) -> f64| {
                        u * u * u * of(a) + 3.0 * u * u * t * of(b) + 3.0 * u * t * t * of(c) + t * t * t * of(d)
                    };
                    Point { x: at(|point| point.x), y: at(|point| point.y) }
                });
                line(*start, *a).chain(curve).collect()
            }
        }
    }

    proptest! {
        /// Whatever waits for whatever: nothing lies on anything else or outside, and no edge leads through a node.
        #[test]
        fn nothing_is_in_the_way(
            nexts in proptest::collection::vec(proptest::option::weighted(0.8, 0..24_usize), 0..24),
            room in 100.0..3_000.0_f64,
        ) {
            let count = nexts.len();
            let nexts: Vec<Option<usize>> = nexts.into_iter().map(|next| next.filter(|&next| next < count)).collect();
            let layout = layout(&items(&nexts), room);
            for (place, area) in layout.nodes.iter().enumerate() {
                let Area { middle, width, height } = area;
                prop_assert!(middle.x - width / 2.0 >= -0.01 && middle.x + width / 2.0 <= layout.width + 0.01, "{area:?}");
                prop_assert!(middle.y - height / 2.0 >= -0.01 && middle.y + height / 2.0 <= layout.height + 0.01, "{area:?}");
                for other in &layout.nodes[place + 1..] {
                    prop_assert!(!meet(area, other), "{area:?} lies on {other:?}");
                }
            }
            for (place, edge) in layout.edges.iter().enumerate() {
                prop_assert_eq!(edge.is_some(), nexts[place].is_some());
                let Some((way, _)) = edge else { continue };
                for point in along(way) {
                    prop_assert!(point.x >= 0.0 && point.x <= layout.width && point.y >= 0.0 && point.y <= layout.height);
                    for (other, area) in layout.nodes.iter().enumerate() {
                        let dot = Area { middle: point, width: 0.0, height: 0.0 };
                        let inner = Area { width: area.width - 0.1, height: area.height - 0.1, ..*area };
                        prop_assert!(!meet(&dot, &inner), "the edge of {place} leads through {other}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_chain_that_is_too_wide_goes_down() {
        let chain: Vec<Option<usize>> = (1..8).map(Some).chain([None]).collect();
        let wide = layout(&items(&chain), 10_000.0);
        assert!(wide.width > 1_500.0 && wide.height < 60.0, "{wide:?}");
        let high = layout(&items(&chain), 1_000.0);
        assert!(high.width < 400.0 && high.height > 500.0, "{high:?}");
    }

    #[test]
    fn those_who_wait_for_one_stand_around_it() {
        let star = layout(&items(&[Some(3), Some(3), Some(3), None]), 1_000.0);
        let [a, b, c, end] = [0, 1, 2, 3].map(|place: usize| star.nodes[place].middle);
        assert!(a.x == b.x && b.x == c.x && c.x < end.x);
        assert!(a.y < b.y && b.y < c.y && end.y == b.y);
    }
}
