//! A picture for a digest: the same for the same digest, another one everywhere for every other digest.

use super::digest::{Digest, digest};

/// Cells of the colour field along each edge.
const CELLS: usize = 6;

/// A smooth colour field with a fine grain. `position` tells the pictures of a batch apart.
pub(crate) fn paint(seed: &Digest, position: u64, width: u32, height: u32) -> Vec<u8> {
    let field = Field::new(seed, position);
    let mut pixels =
        Vec::with_capacity(3 * usize::try_from(u64::from(width) * u64::from(height)).unwrap_or(0));
    let mut noise = field.grain;
    for y in 0..height {
        let row = Weight::of(y, height);
        for x in 0..width {
            let column = Weight::of(x, width);
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let grain = u8::try_from(noise >> 61).unwrap_or(0);
            for channel in 0..3 {
                pixels.push(field.at(channel, column, row).saturating_add(grain));
            }
        }
    }
    pixels
}

/// Where a pixel lies between two nodes of the field: the first node, and 0 to 255 towards the second.
#[derive(Clone, Copy)]
struct Weight {
    node: usize,
    towards_next: u32,
}

impl Weight {
    fn of(position: u32, length: u32) -> Self {
        let cells = u64::try_from(CELLS).unwrap_or(1);
        let scaled = u64::from(position) * cells * 256 / u64::from(length.max(1));
        Self {
            node: usize::try_from(scaled / 256).unwrap_or(0).min(CELLS - 1),
            towards_next: u32::try_from(scaled % 256).unwrap_or(0),
        }
    }

    fn mix(self, first: u32, second: u32) -> u32 {
        (first * (256 - self.towards_next) + second * self.towards_next) / 256
    }
}

struct Field {
    nodes: Vec<u8>,
    grain: u64,
}

impl Field {
    fn new(seed: &Digest, position: u64) -> Self {
        let mut nodes = Vec::with_capacity(3 * (CELLS + 1) * (CELLS + 1) + 32);
        let mut block = digest([seed.as_slice(), &position.to_le_bytes()]);
        let grain = block
            .first_chunk::<8>()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        while nodes.len() < 3 * (CELLS + 1) * (CELLS + 1) {
            block = digest([block.as_slice()]);
            nodes.extend_from_slice(&block);
        }
        Self { nodes, grain }
    }

    fn node(&self, channel: usize, column: usize, row: usize) -> u32 {
        self.nodes
            .get((row * (CELLS + 1) + column) * 3 + channel)
            .copied()
            .map_or(0, u32::from)
    }

    fn at(&self, channel: usize, column: Weight, row: Weight) -> u8 {
        let above = column.mix(
            self.node(channel, column.node, row.node),
            self.node(channel, column.node + 1, row.node),
        );
        let below = column.mix(
            self.node(channel, column.node, row.node + 1),
            self.node(channel, column.node + 1, row.node + 1),
        );
        u8::try_from(row.mix(above, below)).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{digest, paint};

    #[test]
    fn the_same_digest_paints_the_same_picture() {
        let seed = digest([b"a".as_slice()]);
        assert_eq!(paint(&seed, 0, 64, 48), paint(&seed, 0, 64, 48));
        assert_eq!(paint(&seed, 0, 64, 48).len(), 64 * 48 * 3);
    }

    #[test]
    fn another_digest_or_batch_position_changes_most_pixels() {
        let first = paint(&digest([b"a".as_slice()]), 0, 64, 64);
        for other in [
            paint(&digest([b"b".as_slice()]), 0, 64, 64),
            paint(&digest([b"a".as_slice()]), 1, 64, 64),
        ] {
            let same = first
                .chunks(3)
                .zip(other.chunks(3))
                .filter(|(left, right)| left == right)
                .count();
            assert!(same < 64 * 64 / 100, "{same} of 4096 pixels are the same");
        }
    }
}
