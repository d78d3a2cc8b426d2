//! What tensors may be and where they may lie: the reference crate decides.

use safetensors::SafeTensorError;
use safetensors::tensor::{Metadata, TensorInfo as Described};

use super::error::SafetensorsError;
use super::header::TensorInfo;
use super::parse::quoted;

/// Brings tensors into the order of their bytes and has them checked; answers the bytes of all together.
pub(super) fn check_layout(
    mut tensors: Vec<TensorInfo>,
) -> Result<(Vec<TensorInfo>, u64), SafetensorsError> {
    tensors.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    if let Some([twice, _]) = tensors
        .array_windows::<2>()
        .find(|[one, other]| one.name == other.name)
    {
        return Err(SafetensorsError::Duplicate {
            name: quoted(&twice.name),
        });
    }
    // Stable, so that empty tensors at one place stay in the order of their names.
    tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
    // Places stand in for the names, which may be long and say nothing to the rules.
    let described = tensors
        .iter()
        .enumerate()
        .map(|(place, tensor)| (place.to_string(), described(tensor, 0)))
        .collect();
    match Metadata::new(None, described) {
        Ok(layout) => Ok((tensors, layout.data_len() as u64)),
        Err(error) => Err(told(&tensors, &error)),
    }
}

/// The tensor as the reference crate takes it, its bytes counted from `start`.
fn described(tensor: &TensorInfo, start: usize) -> Described {
    Described {
        dtype: tensor.dtype,
        shape: tensor.shape.to_vec(),
        data_offsets: (
            tensor.begin.saturating_sub(start),
            tensor.end.saturating_sub(start),
        ),
    }
}

/// The crate's verdict, with the name and the numbers that it leaves out.
fn told(tensors: &[TensorInfo], error: &SafeTensorError) -> SafetensorsError {
    let refused = match error {
        SafeTensorError::InvalidOffset(place) => place
            .parse()
            .ok()
            .and_then(|place: usize| Some((place, tensors.get(place)?))),
        _ => tensors
            .iter()
            .enumerate()
            .find(|(_, tensor)| is_refused_alone(tensor)),
    };
    let Some((place, tensor)) = refused else {
        return unplaced(error);
    };
    let name = quoted(&tensor.name);
    match error {
        SafeTensorError::InvalidOffset(_) if tensor.end < tensor.begin => {
            SafetensorsError::Backward { tensor: name }
        }
        SafeTensorError::InvalidOffset(_) => SafetensorsError::NotContiguous {
            tensor: name,
            begins: tensor.begin as u64,
            expected: place
                .checked_sub(1)
                .and_then(|before| tensors.get(before))
                .map_or(0, |before| before.end as u64),
        },
        SafeTensorError::ValidationOverflow | SafeTensorError::MisalignedSlice => {
            SafetensorsError::ImpossibleShape { tensor: name }
        }
        SafeTensorError::TensorInvalidInfo => SafetensorsError::SizeMismatch {
            tensor: name,
            needed: needed_bytes(tensor),
            given: tensor.end.saturating_sub(tensor.begin) as u64,
        },
        other => unplaced(other),
    }
}

fn unplaced(error: &SafeTensorError) -> SafetensorsError {
    SafetensorsError::Malformed {
        reason: error.to_string(),
    }
}

fn is_refused_alone(tensor: &TensorInfo) -> bool {
    let alone = vec![(String::new(), described(tensor, tensor.begin))];
    Metadata::new(None, alone).is_err()
}

fn needed_bytes(tensor: &TensorInfo) -> u64 {
    let numbers = tensor
        .shape
        .iter()
        .fold(1_usize, |product, length| product.saturating_mul(*length));
    (numbers.saturating_mul(tensor.dtype.bitsize()) / 8) as u64
}
