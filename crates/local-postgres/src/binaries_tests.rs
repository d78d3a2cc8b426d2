use super::*;

/// Writes a `postgres` which runs `script`, and an `initdb`, into `folder`.
fn programs(folder: &Path, script: &str) {
    fs::create_dir_all(folder).unwrap();
    for (name, text) in [("postgres", script), ("initdb", "exit 0")] {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn version(folder: &Path, version: &str) {
    programs(folder, &format!("echo 'postgres (PostgreSQL) {version}'"));
}

fn find(search: &BinarySearch, major: Option<u32>) -> (Result<Binaries, Error>, Vec<Step>) {
    let mut steps = Vec::new();
    let found = search.find(major, Path::new("/the/data"), None, &mut |step| {
        steps.push(step.clone());
    });
    (found, steps)
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

#[test]
fn versions_are_read() {
    let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";

    assert_eq!(parse_version(debian), Some(("15.18".to_owned(), 15)));
    assert_eq!(
        parse_version("postgres (PostgreSQL) 18beta1\n"),
        Some(("18beta1".to_owned(), 18))
    );
    assert_eq!(parse_version("psql (PostgreSQL) 15.1"), None);
    assert_eq!(parse_version(""), None);
}

#[test]
fn the_search_path_comes_first_then_the_newest_of_the_system() {
    let (_guard, base) = folder();
    version(&base.join("lib/9/bin"), "9.6.24");
    version(&base.join("lib/15/bin"), "15.1");
    version(&base.join("lib/17/bin"), "17.2");
    version(&base.join("path"), "14.0");
    let system = BinarySearch::nowhere().versioned(base.join("lib"), "");

    assert_eq!(find(&system, None).0.unwrap().version(), "17.2");
    assert_eq!(
        find(&system.search_path(base.join("path")), None)
            .0
            .unwrap()
            .version(),
        "14.0"
    );
}

#[test]
fn a_cluster_that_exists_gets_its_own_version() {
    let (_guard, base) = folder();
    version(&base.join("pgsql-15/bin"), "15.1");
    version(&base.join("pgsql-17/bin"), "17.2");
    let search = BinarySearch::nowhere().versioned(&base, "pgsql-");

    assert_eq!(find(&search, Some(15)).0.unwrap().major(), 15);
    let error = find(&search, Some(16)).0.unwrap_err().to_string();
    assert!(
        error.contains("/the/data") && error.contains("PostgreSQL 16"),
        "{error}"
    );
}

#[test]
fn broken_candidates_are_passed_over_and_told() {
    let (_guard, base) = folder();
    programs(
        &base.join("18/bin"),
        "echo 'cannot load libpq' >&2; exit 127",
    );
    version(&base.join("17/bin"), "17.0");
    fs::remove_file(base.join("17/bin/initdb")).unwrap();
    programs(&base.join("16/bin"), "echo hello");
    version(&base.join("15/bin"), "15.1");

    let (found, steps) = find(&BinarySearch::nowhere().versioned(&base, ""), None);

    assert_eq!(found.unwrap().major(), 15);
    let skipped = steps
        .iter()
        .filter(|step| matches!(step, Step::SkippedBinaries { .. }))
        .count();
    assert_eq!(skipped, 3, "{steps:?}");
}

#[test]
fn too_old_a_server_is_passed_over() {
    let (_guard, base) = folder();
    version(&base, "13.9");

    let error = find(&BinarySearch::nowhere().search_path(&base), None)
        .0
        .unwrap_err()
        .to_string();

    assert!(error.contains("too old"), "{error}");
}

#[test]
fn links_lead_to_the_folder_with_the_companions() {
    let (_guard, base) = folder();
    version(&base.join("real"), "15.1");
    fs::create_dir(base.join("links")).unwrap();
    for name in ["postgres", "initdb"] {
        std::os::unix::fs::symlink(base.join("real").join(name), base.join("links").join(name))
            .unwrap();
    }

    let found = find(
        &BinarySearch::nowhere().search_path(base.join("links")),
        None,
    )
    .0
    .unwrap();

    assert_eq!(found.directory(), base.join("real"));
}

#[test]
fn a_named_folder_that_does_not_work_is_an_error_rather_than_passed_over() {
    let (_guard, base) = folder();
    version(&base.join("good"), "15.1");
    let search = BinarySearch::nowhere()
        .search_path(base.join("good"))
        .named(base.join("wrong"));

    let error = find(&search, None).0.unwrap_err();

    assert!(matches!(error, Error::NamedBinaries { .. }), "{error}");
    assert!(
        error.to_string().contains("ATELIER_POSTGRES_BIN"),
        "{error}"
    );
}

#[test]
fn relative_folders_of_the_search_path_are_left_out() {
    let search = BinarySearch::nowhere().search_path(":.:bin:/usr/bin");

    assert_eq!(
        search.path_folders().collect::<Vec<_>>(),
        [PathBuf::from("/usr/bin")]
    );
}

#[test]
fn without_any_programs_one_line_says_what_to_install() {
    let (_guard, base) = folder();
    let nothing = BinarySearch::nowhere().search_path("").cache(&base);

    for search in [nothing.clone(), nothing.fetch(true)] {
        let error = find(&search, None).0.unwrap_err().to_string();

        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("apt-get install postgresql"), "{error}");
        assert!(error.contains("ATELIER_POSTGRES_BIN"), "{error}");
    }
}

#[test]
fn forbidden_fetching_is_told_and_kept() {
    let (_guard, base) = folder();
    let tool = base.join("python3");
    fs::write(
        &tool,
        format!("#!/bin/sh\ntouch {}\n", base.join("called").display()),
    )
    .unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();

    let error = find(
        &BinarySearch::nowhere()
            .search_path(&base)
            .cache(base.join("cache")),
        None,
    )
    .0
    .unwrap_err();

    assert!(error.to_string().contains("forbidden"), "{error}");
    assert!(!base.join("called").exists());
}
