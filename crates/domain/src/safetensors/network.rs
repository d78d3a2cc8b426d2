//! How a LoRA changes its model, by the parts that it is made of.

use std::collections::HashMap;

use super::SafetensorsHeader;
use super::naming::{LayerPart, Part};

/// The rank of the file's matrices: the most frequent one, the larger of two as frequent ones; what the trainer wrote
/// where no matrix tells.
pub(super) fn rank(header: &SafetensorsHeader) -> Option<u32> {
    let mut counts: HashMap<u32, u32> = HashMap::new();
    for tensor in header.tensors() {
        let Some(part) = LayerPart::of(&tensor.name) else {
            continue;
        };
        let has_rank = matches!(
            part.part,
            Part::Down | Part::HadamardDown | Part::KroneckerFirstDown | Part::KroneckerSecondDown
        );
        let rank = tensor
            .shape
            .first()
            .and_then(|rank| u32::try_from(*rank).ok())
            .filter(|rank| has_rank && *rank > 0);
        if let Some(rank) = rank {
            *counts.entry(rank).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .max_by_key(|(rank, count)| (*count, *rank))
        .map(|(rank, _)| rank)
        .or_else(|| {
            // Trainers write "Dynamic" where ranks differ between layers.
            let written = header.metadata().get("ss_network_dim")?;
            written.trim().parse().ok().filter(|rank| *rank > 0)
        })
}

/// The usual name of what the file is, by most of its parts.
pub(super) fn network_type(header: &SafetensorsHeader) -> Option<String> {
    let mut counts = [
        ("LoRA", 0_usize),
        ("LoHa", 0),
        ("LoKr", 0),
        ("OFT", 0),
        ("GLoRA", 0),
        ("full difference", 0),
    ];
    let mut has_magnitudes = false;
    for tensor in header.tensors() {
        let Some(LayerPart { part, .. }) = LayerPart::of(&tensor.name) else {
            continue;
        };
        let place = match part {
            Part::Down | Part::Up => 0,
            Part::HadamardDown | Part::Hadamard => 1,
            Part::KroneckerFirst
            | Part::KroneckerFirstDown
            | Part::KroneckerSecond
            | Part::KroneckerSecondDown
            | Part::Kronecker => 2,
            Part::Orthogonal => 3,
            Part::Generalised => 4,
            Part::Difference => 5,
            Part::Magnitude => {
                has_magnitudes = true;
                continue;
            }
            Part::Other => continue,
        };
        if let Some((_, count)) = counts.get_mut(place) {
            *count += 1;
        }
    }
    let (name, _) = counts
        .into_iter()
        .rev()
        .filter(|(_, count)| *count > 0)
        .max_by_key(|(_, count)| *count)?;
    let name = if has_magnitudes && name == "LoRA" {
        "DoRA"
    } else {
        name
    };
    Some(name.to_owned())
}
