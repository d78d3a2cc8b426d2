//! Making, loading and changing pictures.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::NodeClass;
use super::call::{Call, Failure, Produced, Slot, out_of_memory, repeated};
use super::definition::{Choices, Definition, Kind};
use crate::instance::Instance;
use crate::output::normalize;
use crate::picture::{Method, Pictures, decode_png, frame_bytes, scale};

pub(super) fn classes() -> Vec<NodeClass> {
    vec![
        NodeClass {
            definition: empty_image(),
            action: make_empty,
        },
        NodeClass {
            definition: load_image(),
            action: load,
        },
        NodeClass {
            definition: image_scale(),
            action: scale_pictures,
        },
        NodeClass {
            definition: image_invert(),
            action: invert,
        },
    ]
}

fn empty_image() -> Definition {
    let edge = || json!({"default": 512, "min": 1, "max": 16384, "step": 1});
    let color = json!({"default": 0, "min": 0, "max": 0x00ff_ffff, "step": 1, "display": "color"});
    Definition {
        class_type: "EmptyImage",
        display_name: ("Empty Image", "EmptyImage"),
        category: ("image", "image"),
        module: "nodes",
        outputs: vec![("IMAGE", "IMAGE")],
        ..Definition::default()
    }
    .required_with("width", Kind::Typed("INT"), edge())
    .required_with("height", Kind::Typed("INT"), edge())
    .required_with(
        "batch_size",
        Kind::Typed("INT"),
        json!({"default": 1, "min": 1, "max": 4096}),
    )
    .required_with("color", Kind::Typed("INT"), color)
}

fn load_image() -> Definition {
    Definition {
        class_type: "LoadImage",
        display_name: ("Load Image", "Load Image"),
        category: ("image", "image"),
        module: "nodes",
        outputs: vec![("IMAGE", "IMAGE"), ("MASK", "MASK")],
        essentials: Some("Basics"),
        ..Definition::default()
    }
    .required_with(
        "image",
        Kind::Choice(Choices::InputFiles),
        json!({"image_upload": true}),
    )
}

fn image_scale() -> Definition {
    let edge = || json!({"default": 512, "min": 0, "max": 16384, "step": 1});
    let methods = Choices::Fixed(&["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]);
    Definition {
        class_type: "ImageScale",
        display_name: ("Upscale Image", "Upscale Image"),
        category: ("image/upscaling", "image/upscaling"),
        module: "nodes",
        outputs: vec![("IMAGE", "IMAGE")],
        essentials: Some("Image Tools"),
        ..Definition::default()
    }
    .required("image", Kind::Typed("IMAGE"))
    .required("upscale_method", Kind::Choice(methods))
    .required_with("width", Kind::Typed("INT"), edge())
    .required_with("height", Kind::Typed("INT"), edge())
    .required(
        "crop",
        Kind::Choice(Choices::Fixed(&["disabled", "center"])),
    )
}

fn image_invert() -> Definition {
    Definition {
        class_type: "ImageInvert",
        display_name: ("Invert Image Colors", "Invert Image"),
        category: ("image/color", "image"),
        module: "nodes",
        outputs: vec![("IMAGE", "IMAGE")],
        essentials: Some("Image Tools"),
        ..Definition::default()
    }
    .required("image", Kind::Typed("IMAGE"))
}

fn make_empty(call: &Call<'_>) -> Result<Produced, Failure> {
    let (width, height) = (call.edge("width")?, call.edge("height")?);
    let (batch, color) = (call.integer("batch_size")?, call.integer("color")?);
    let bytes = frame_bytes(width, height, batch).ok_or_else(out_of_memory)?;
    let [.., red, green, blue] = color.to_be_bytes();
    let frame = [red, green, blue].repeat(bytes / 3);
    Ok(Produced::slots([Slot::Pictures(repeated(
        width, height, frame, batch,
    ))]))
}

fn invert(call: &Call<'_>) -> Result<Produced, Failure> {
    let pictures = call.pictures("image")?;
    let frames = pictures
        .frames
        .iter()
        .map(|frame| frame.iter().map(|value| u8::MAX - value).collect());
    Ok(Produced::slots([Slot::Pictures(Pictures {
        frames: frames.collect(),
        ..*pictures
    })]))
}

fn scale_pictures(call: &Call<'_>) -> Result<Produced, Failure> {
    let pictures = call.pictures("image")?.clone();
    let size = match (call.edge("width")?, call.edge("height")?) {
        (0, 0) => return Ok(Produced::slots([Slot::Pictures(pictures)])),
        (0, height) => (
            in_proportion(pictures.width, height, pictures.height),
            height,
        ),
        (width, 0) => (width, in_proportion(pictures.height, width, pictures.width)),
        size => size,
    };
    let batch = u64::try_from(pictures.frames.len()).unwrap_or(u64::MAX);
    frame_bytes(size.0, size.1, batch).ok_or_else(out_of_memory)?;
    let method = if call.text("upscale_method")? == "nearest-exact" {
        Method::Nearest
    } else {
        Method::Bilinear
    };
    let source = if call.text("crop")? == "center" {
        crop(&pictures, size)
    } else {
        pictures
    };
    let from = (source.width, source.height);
    let frames = source
        .frames
        .iter()
        .map(|frame| Arc::from(scale(frame, from, size, method)))
        .collect();
    Ok(Produced::slots([Slot::Pictures(Pictures {
        width: size.0,
        height: size.1,
        frames,
    })]))
}

fn in_proportion(length: u32, numerator: u32, denominator: u32) -> u32 {
    let scaled = u64::from(length) * u64::from(numerator) / u64::from(denominator.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
}

/// The largest part from the middle that has the proportions of `size`.
fn crop(pictures: &Pictures, size: (u32, u32)) -> Pictures {
    let width = in_proportion(pictures.height, size.0, size.1).min(pictures.width);
    let height = in_proportion(pictures.width, size.1, size.0).min(pictures.height);
    let (left, top) = ((pictures.width - width) / 2, (pictures.height - height) / 2);
    let bytes = |pixels: u32| 3 * usize::try_from(pixels).unwrap_or(0);
    let frames = pictures.frames.iter().map(|frame| {
        let rows = frame
            .chunks(bytes(pictures.width).max(1))
            .skip(bytes(top) / 3)
            .take(bytes(height) / 3);
        rows.flat_map(|row| {
            row.get(bytes(left)..bytes(left + width))
                .unwrap_or_default()
        })
        .copied()
        .collect()
    });
    Pictures {
        width,
        height,
        frames: frames.collect(),
    }
}

fn load(call: &Call<'_>) -> Result<Produced, Failure> {
    let name = call.text("image")?;
    let path = input_file(call.instance(), &name).ok_or_else(|| {
        Failure::raised(
            "FileNotFoundError",
            format!("[Errno 2] No such file or directory: '{name}'"),
        )
    })?;
    let bytes = std::fs::read(&path).map_err(|error| {
        Failure::raised(
            "OSError",
            format!(
                "[Errno {}] {error}",
                error.raw_os_error().unwrap_or_default()
            ),
        )
    })?;
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Err(Failure::raised(
            "PIL.UnidentifiedImageError",
            format!("cannot identify image file '{name}'"),
        ));
    }
    let decoded =
        decode_png(&bytes).map_err(|_damaged| Failure::raised("OSError", "Truncated File Read"))?;
    let (width, height) = (decoded.width, decoded.height);
    // A mask is what is transparent; it travels as a grey picture.
    let mask = decoded
        .alpha
        .iter()
        .flat_map(|opacity| [u8::MAX - opacity; 3])
        .collect();
    Ok(Produced::slots([
        Slot::Pictures(repeated(width, height, decoded.rgb, 1)),
        Slot::Pictures(repeated(width, height, mask, 1)),
    ]))
}

/// The file behind a picture name, which may be annotated: `x.png [output]`. `None` if there is none, or if it is elsewhere.
pub(crate) fn input_file(instance: &Instance, name: &str) -> Option<PathBuf> {
    let (name, folder) = [
        ("input", " [input]"),
        ("output", " [output]"),
        ("temp", " [temp]"),
    ]
    .into_iter()
    .find_map(|(folder, annotation)| name.strip_suffix(annotation).map(|name| (name, folder)))
    .unwrap_or((name, "input"));
    let relative = normalize(name);
    if relative.starts_with('/') || relative.starts_with("..") {
        return None;
    }
    Some(instance.options.base_dir.join(folder).join(relative)).filter(|path| path.is_file())
}

/// What the class says about a picture that is not there, at validation time.
pub(crate) fn validate_input_file(instance: &Instance, name: &str) -> Result<(), String> {
    input_file(instance, name)
        .map(|_path| ())
        .ok_or_else(|| format!("Invalid image file: {name}"))
}
