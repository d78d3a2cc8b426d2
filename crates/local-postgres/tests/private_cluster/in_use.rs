//! A cluster in normal use.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::thread;

use crate::support::{
    self, Launcher, folder, is_alive, is_root, psql, query, quick, shared, start, start_told,
    wait_until,
};
use atelier_local_postgres::{BinarySearch, Cluster, ClusterOptions, Error, Step};

#[test]
fn data_is_kept_over_a_restart() {
    let (_guard, base) = folder();
    let options = ClusterOptions::new(base.join("new/postgres"));
    let cluster = start(&options);
    query(&cluster, "CREATE TABLE kept AS SELECT 'ünïcode' AS value");
    let pid = cluster.pid();
    cluster.stop().unwrap();
    assert!(!is_alive(pid));

    let (cluster, steps) = start_told(&options);

    assert_eq!(query(&cluster, "SELECT value FROM kept"), "ünïcode");
    assert!(
        !steps
            .iter()
            .any(|step| matches!(step, Step::CreatingCluster { .. })),
        "{steps:?}"
    );
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(!log.contains("was not properly shut down"), "{log}");
}

#[test]
fn the_steps_are_told_in_order() {
    let (_guard, base) = folder();

    let (cluster, steps) = start_told(&quick(&base));

    let told: Vec<_> = steps
        .iter()
        .filter(|step| !matches!(step, Step::Swept { .. }))
        .collect();
    assert!(
        matches!(
            told.as_slice(),
            [
                Step::FoundBinaries { .. },
                Step::CreatingCluster { .. },
                Step::Starting { .. },
                Step::Ready { pid, .. },
            ] if *pid == cluster.pid()
        ),
        "{told:?}"
    );
}

#[test]
fn nobody_else_reaches_data_log_and_socket() {
    let cluster = shared();

    for (path, mode) in [
        (cluster.directory().join("data"), 0o700),
        (cluster.log(), 0o600),
        (cluster.socket_directory(), 0o700),
        (cluster.socket_directory().join(".s.PGSQL.5432"), 0o700),
    ] {
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            mode,
            "{}",
            path.display()
        );
    }
    assert_eq!(cluster.tcp_address(), None);
    assert_eq!(query(cluster, "SHOW listen_addresses"), "");
}

#[test]
fn the_server_never_runs_as_root() {
    let cluster = shared();

    let owner = fs::metadata(format!("/proc/{}", cluster.pid()))
        .unwrap()
        .uid();

    assert_ne!(owner, 0);
    if !is_root() {
        assert_eq!(owner, rustix::process::geteuid().as_raw());
    }
}

#[test]
fn ctrl_c_in_the_terminal_does_not_reach_the_server() {
    let server = i32::try_from(shared().pid()).unwrap();

    let group = rustix::process::getpgid(rustix::process::Pid::from_raw(server)).unwrap();

    assert_ne!(group, rustix::process::getpgrp());
}

#[test]
fn an_ordinary_user_runs_it_as_themselves() {
    if !is_root() {
        println!("SKIPPED: every other test runs as an ordinary user already");
        return;
    }
    let uid = 65_534;
    let (_guard, base) = folder();
    let directory = base.join("theirs");
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(uid), Some(uid)).unwrap();

    let launcher = Launcher::start_as(
        uid,
        &base,
        &["--throw-away".as_ref(), directory.as_os_str()],
    );

    let server = support::server_of(&directory);
    assert_eq!(fs::metadata(format!("/proc/{server}")).unwrap().uid(), uid);
    let left = launcher.private_directory();
    drop(launcher);
    wait_until("their server has ended", || !is_alive(server));
    // Root's next start sweeps what is root's only.
    fs::remove_dir_all(left).unwrap();
}

#[test]
fn a_second_start_on_the_same_directory_is_refused() {
    let (_guard, base) = folder();
    let options = quick(&base);
    let cluster = start(&options);

    let error = Cluster::start(&options, &mut |_| {}).unwrap_err();

    assert!(
        matches!(error, Error::InUse { pid: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    assert_eq!(
        query(&cluster, "SELECT 1"),
        "1",
        "the first one is not harmed"
    );
}

#[test]
fn it_outlives_the_thread_that_started_it() {
    let (_guard, base) = folder();

    let cluster = thread::spawn(move || start(&quick(&base))).join().unwrap();

    assert_eq!(query(&cluster, "SELECT 1"), "1");
}

#[test]
fn a_dropped_throw_away_cluster_leaves_nothing() {
    let cluster = Cluster::throw_away().unwrap();
    let (directory, pid) = (cluster.directory().to_path_buf(), cluster.pid());
    assert_eq!(query(&cluster, "SHOW fsync"), "off");

    drop(cluster);

    assert!(!is_alive(pid));
    assert!(!directory.exists());
}

#[test]
fn superuser_and_settings_are_the_callers() {
    let options = ClusterOptions::in_temporary_directory()
        .superuser("supabase_admin")
        .setting("log_statement", "ddl")
        .setting("app.who", "it's me");

    let cluster = start(&options);

    let is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    assert!(
        cluster
            .url("postgres")
            .starts_with("postgres://supabase_admin@%2F")
    );
    assert_eq!(query(&cluster, is_superuser), "t");
    assert_eq!(query(&cluster, "SHOW app.who"), "it's me");
    query(&cluster, "CREATE ROLE \"an odd@name\" LOGIN");
    let odd = cluster.url_for("an odd@name", "postgres");
    assert_eq!(psql(&cluster, &odd, is_superuser).unwrap(), "f");
}

#[test]
fn nothing_depends_on_the_machines_locale_and_time_zone() {
    let cluster = shared();

    assert_eq!(query(cluster, "SHOW server_encoding"), "UTF8");
    assert_eq!(query(cluster, "SHOW timezone"), "UTC");
    assert_eq!(query(cluster, "SELECT upper('ä')"), "Ä");
}

#[test]
fn tcp_asks_for_a_password_and_offers_tls() {
    let options = ClusterOptions::in_temporary_directory().tcp().tls(
        include_str!("data/localhost.crt"),
        include_str!("data/localhost.key"),
    );
    let cluster = start(&options);
    query(&cluster, "CREATE ROLE caller LOGIN PASSWORD 'pass'");
    let address = cluster.tcp_address().unwrap();
    let certificate = format!(
        "{}/tests/private_cluster/data/localhost.crt",
        env!("CARGO_MANIFEST_DIR")
    );
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

    let verified = format!(
        "postgres://caller:pass@localhost:{}/postgres\
         ?sslmode=verify-full&sslrootcert={certificate}",
        address.port()
    );
    let refused = psql(
        &cluster,
        &format!("postgres://postgres@{address}/postgres"),
        encrypted,
    )
    .unwrap_err();

    assert_eq!(psql(&cluster, &verified, encrypted).unwrap(), "t");
    assert!(refused.contains("password"), "{refused}");
    assert_eq!(query(&cluster, encrypted), "f", "the socket needs none");
    let key = cluster.socket_directory().with_file_name("server.key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o007, 0);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();

    let error = Cluster::start(
        &ClusterOptions::in_temporary_directory().tcp_port(port),
        &mut |_| {},
    )
    .unwrap_err();

    assert!(
        matches!(&error, Error::DidNotStart { detail, .. } if detail.contains("TCP/IP")),
        "{error}"
    );
}

#[test]
fn a_setting_the_server_refuses_is_told_in_its_own_words() {
    let options = ClusterOptions::in_temporary_directory().setting("max_connections", "many");

    let error = Cluster::start(&options, &mut |_| {})
        .unwrap_err()
        .to_string();

    assert!(error.contains("max_connections"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn without_programs_nothing_is_made() {
    let (_guard, base) = folder();
    let options = quick(&base).binaries(BinarySearch::nowhere());

    let error = Cluster::start(&options, &mut |_| {}).unwrap_err();

    assert!(matches!(error, Error::NoBinaries { .. }), "{error}");
    assert!(!base.join("data").exists());
}

#[test]
fn a_directory_closed_to_the_servers_user_is_replaced_by_one_that_is_open() {
    if !is_root() {
        println!("SKIPPED: only root's server runs as another user");
        return;
    }
    let (_guard, base) = folder();
    let closed = base.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let options = quick(&closed.join("postgres")).unreachable_fallback(base.join("open"));

    let (cluster, steps) = start_told(&options);

    assert!(cluster.directory().starts_with(base.join("open")));
    assert!(
        steps.iter().any(|step| matches!(step, Step::Moved { .. })),
        "{steps:?}"
    );
    query(&cluster, "CREATE TABLE kept ()");
    cluster.stop().unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    let again = start(&options);
    assert_eq!(
        query(&again, "SELECT count(*) FROM kept"),
        "0",
        "it stays where its data is"
    );
}
