use atelier_domain::safetensors::{HeaderReader, SafetensorsError, SafetensorsHeader, lora_facts};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use safetensors::SafeTensors;

use crate::{FLUX, HOLE, PICKLE, SD15, TRAILING, file, read, read_in_chunks};

/// Cuts `file` at the given places, empty chunks included.
fn cut<'a>(file: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places
        .iter()
        .map(|place| place % (file.len() + 1))
        .collect();
    places.sort_unstable();
    let mut start = 0;
    let mut chunks = Vec::new();
    for place in places {
        chunks.extend(file.get(start..place));
        start = place;
    }
    chunks.extend(file.get(start..));
    chunks
}

fn reads_and_forgets(file: &[u8]) -> Option<SafetensorsHeader> {
    let header = read(file).ok()?;
    drop(lora_facts(&header));
    Some(header)
}

/// Whether a refusal may be ours alone: the policies that `verdicts` lists one by one.
fn is_policy(error: &SafetensorsError, file: &[u8]) -> bool {
    let header = file.get(8..).unwrap_or_default();
    match error {
        SafetensorsError::Duplicate { .. }
        | SafetensorsError::TooMuch { .. }
        | SafetensorsError::HeaderTooLarge { .. } => true,
        SafetensorsError::NotAHeader | SafetensorsError::Foreign(_) => {
            header.first().is_some_and(|first| *first != b'{')
        }
        // Tensors as lists, types as objects.
        SafetensorsError::Malformed { reason } => {
            reason.contains("invalid type: sequence, expected an object")
                || reason.contains("invalid type: map, expected a string")
        }
        _ => false,
    }
}

fn agrees_with_the_reference(file: &[u8]) -> Result<(), TestCaseError> {
    let theirs = SafeTensors::read_metadata(file);
    match (reads_and_forgets(file), theirs) {
        (Some(header), Ok((header_len, metadata))) => {
            prop_assert_eq!(header.header_len(), header_len as u64);
            prop_assert_eq!(header.tensors().len(), metadata.tensors().len());
        }
        (Some(_), Err(error)) => prop_assert!(false, "only we read it: {error}"),
        (None, Ok(_)) => {
            let error = read(file).unwrap_err();
            prop_assert!(is_policy(&error, file), "only we refuse it: {error}");
        }
        (None, Err(_)) => {}
    }
    Ok(())
}

/// Pieces of headers, so that chance makes some that are nearly right.
fn header_text() -> impl Strategy<Value = String> {
    let tensor = (
        select(vec!["F32", "U8", "F4", "F6_E2M3", "BF16", "F33"]),
        vec(
            select(vec![
                "0",
                "1",
                "2",
                "3",
                "4",
                "-1",
                "1.0",
                "9e9",
                "18446744073709551615",
            ]),
            0..4,
        ),
        (0..10_u32, 0..20_u32),
        select(vec![
            "",
            ",\"x\":[{}]",
            ",\"dtype\":\"U8\"",
            ",\"x\":\"\\ud800\"",
            ",\"x\":1e999",
        ]),
    )
        .prop_map(|(dtype, shape, (begin, length), more)| {
            format!(
                r#"{{"dtype":"{dtype}","shape":[{}],"data_offsets":[{begin},{}]{more}}}"#,
                shape.join(","),
                begin + length
            )
        });
    let value = prop_oneof![
        8 => tensor,
        1 => select(vec!["null", "{}", "[]", "5", "\"x\"", "{\"a\":\"b\"}", "[\"U8\",[1],[0,1]]"])
            .prop_map(str::to_owned),
    ];
    let name = select(vec![
        "a",
        "b",
        "c",
        "",
        "__metadata__",
        "\\u0061",
        "lora_unet_x.lora_down.weight",
    ]);
    (
        vec((name, value), 0..4),
        select(vec!["", "  ", "\n", "x", "\0"]),
    )
        .prop_map(|(members, end)| {
            let members: Vec<_> = members
                .into_iter()
                .map(|(name, value)| format!("\"{name}\":{value}"))
                .collect();
            format!("{{{}}}{end}", members.join(","))
        })
}

/// A header of tensors that lie one after the other, as they must.
fn good_header() -> impl Strategy<Value = (String, usize)> {
    vec(vec(0..4_usize, 0..3), 0..6).prop_map(|shapes| {
        let mut begin = 0;
        let members: Vec<_> = shapes
            .iter()
            .enumerate()
            .map(|(number, shape)| {
                let end = begin + 2 * shape.iter().product::<usize>();
                let text = format!(
                    r#""t{number}":{{"dtype":"F16","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#
                );
                begin = end;
                text
            })
            .collect();
        (format!("{{{}}}", members.join(",")), begin)
    })
}

proptest! {
    #[test]
    fn the_outcome_does_not_depend_on_the_chunks(
        which in 0..5_usize,
        near in vec(0..40_usize, 0..6),
        far in vec(any::<usize>(), 0..6),
    ) {
        let file = [SD15, FLUX, HOLE, TRAILING, PICKLE][which];
        let places = [near, far].concat();

        prop_assert_eq!(read_in_chunks(cut(file, &places), file.len()), read(file));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..64), places in vec(0..64_usize, 0..4)) {
        prop_assert_eq!(read_in_chunks(cut(&bytes, &places), bytes.len()), read(&bytes));
        agrees_with_the_reference(&bytes)?;
    }

    #[test]
    fn any_text_as_header_is_judged_as_by_the_reference(text in "\\{[\\[\\]{}:,\"a-z0-9_ .-]{0,80}") {
        let file = file(&text, 0);

        if let Some(header) = reads_and_forgets(&file) {
            prop_assert_eq!(header.expected_file_size(), file.len() as u64);
        }
        agrees_with_the_reference(&file)?;
    }

    #[test]
    fn headers_of_likely_pieces_are_judged_as_by_the_reference(
        text in header_text(),
        data in 0..40_usize,
        places in vec(any::<usize>(), 0..4),
    ) {
        let file = file(&text, data);

        agrees_with_the_reference(&file)?;
        prop_assert_eq!(read_in_chunks(cut(&file, &places), file.len()), read(&file));
    }

    #[test]
    fn good_headers_are_read_and_damaged_ones_judged_as_by_the_reference(
        (text, data) in good_header(),
        damage in proptest::option::of((any::<usize>(), any::<u8>())),
        places in vec(any::<usize>(), 0..4),
    ) {
        let mut file = file(&text, data);
        prop_assert!(read(&file).is_ok());
        if let Some((at, byte)) = damage {
            let at = at % (text.len() + 8);
            file[at] = byte;
        }

        agrees_with_the_reference(&file)?;
        prop_assert_eq!(read_in_chunks(cut(&file, &places), file.len()), read(&file));
    }

    #[test]
    fn a_damaged_real_header_is_judged_as_by_the_reference(
        which in 0..2_usize,
        at in 0..2_000_usize,
        byte in any::<u8>(),
        kept in proptest::option::of(any::<usize>()),
    ) {
        let mut file = [SD15, FLUX][which].to_vec();
        file[at % 900] = byte;
        if let Some(kept) = kept {
            file.truncate(kept % file.len());
        }

        agrees_with_the_reference(&file)?;
        let mut reader = HeaderReader::new();
        let fed = reader.feed(&file);
        if fed.is_err() {
            prop_assert!(reader.finish(file.len() as u64).is_err());
        }
    }

    #[test]
    fn facts_of_any_names_are_bounded(names in vec("(lora_unet_|transformer\\.|lora_te1_)?[a-z_0-9.\\PC]{0,40}(\\.lora_A\\.weight|\\.alpha)?", 0..5)) {
        let members: Vec<_> = names
            .iter()
            .map(|name| {
                format!("{}:{{\"dtype\":\"U8\",\"shape\":[0,9],\"data_offsets\":[0,0]}}", serde_json::json!(name))
            })
            .collect();
        if let Ok(header) = read(&file(&format!("{{{}}}", members.join(",")), 0)) {
            let evidence = lora_facts(&header).base_model.map(|found| found.evidence).unwrap_or_default();
            prop_assert!(evidence.chars().count() <= 200 && !evidence.chars().any(char::is_control));
        }
    }
}
