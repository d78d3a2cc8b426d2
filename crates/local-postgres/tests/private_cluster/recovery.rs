//! What a crash leaves behind is dealt with by the next start.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{
    self, Launcher, folder, is_alive, kill, query, quick, server_of, start, start_told, wait_until,
};
use atelier_local_postgres::{Cluster, ClusterOptions, Error, Step};

/// Prepares a program which runs as the user who owns the cluster.
#[expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]
fn as_owner_of(directory: &Path, program: &Path) -> Command {
    let owner = fs::metadata(directory.join("data")).unwrap();
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/");
    if support::is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command
}

struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_killed_server_recovers_what_was_committed() {
    let (_guard, base) = folder();
    let options = ClusterOptions::new(&base);
    let cluster = start(&options);
    query(
        &cluster,
        "CREATE TABLE kept AS SELECT generate_series(1, 1000)",
    );
    let pid = cluster.pid();
    kill(pid);
    wait_until("the server is gone", || !is_alive(pid));
    drop(cluster);

    let cluster = start(&options);

    assert_eq!(query(&cluster, "SELECT count(*) FROM kept"), "1000");
}

#[test]
fn a_statement_that_outlives_its_killed_server_is_ended_first() {
    let (_guard, base) = folder();
    let options = quick(&base);
    let cluster = start(&options);
    let endless = "SELECT count(*) FROM (SELECT generate_series(1, 9000000000)) AS endless";
    let mut client = Bystander(support::psql_command(&cluster, endless).spawn().unwrap());
    let find = "SELECT pid FROM pg_stat_activity \
                WHERE query LIKE '%AS endless' AND state = 'active'";
    wait_until("the statement runs", || !query(&cluster, find).is_empty());
    let backend = query(&cluster, find).parse().unwrap();
    kill(cluster.pid());
    wait_until("the server is gone", || !is_alive(cluster.pid()));
    drop(cluster);

    let (cluster, steps) = start_told(&options);

    assert!(
        steps.contains(&Step::StoppingOrphan { pid: backend }),
        "{steps:?}"
    );
    assert_eq!(query(&cluster, "SELECT 1"), "1");
    client.0.wait().unwrap();
}

#[test]
fn stopping_a_server_that_died_is_no_error() {
    let cluster = Cluster::throw_away().unwrap();
    kill(cluster.pid());

    cluster.stop().unwrap();
}

#[test]
fn a_killed_process_takes_its_server_along() {
    let (_guard, base) = folder();
    let mut launcher = Launcher::start(&[base.as_os_str()]);
    let server = server_of(&base);
    assert!(is_alive(server));

    launcher.kill();

    wait_until("the server has ended", || !is_alive(server));
    let log = fs::read_to_string(base.join("postgres.log")).unwrap();
    assert!(
        log.contains("database system is shut down"),
        "it had time to write everything down: {log}"
    );
}

#[test]
fn the_next_start_waits_for_the_server_of_a_killed_process() {
    let (_guard, base) = folder();
    let mut launcher = Launcher::start(&["--throw-away".as_ref(), base.as_os_str()]);
    launcher.kill();

    let cluster = start(&quick(&base));

    assert_eq!(query(&cluster, "SELECT 1"), "1");
}

#[test]
fn leftovers_of_a_killed_test_run_are_swept() {
    let mut launcher = Launcher::start(&["--throw-away".as_ref()]);
    let left = launcher.private_directory();
    let server = server_of(&left);
    launcher.kill();
    assert!(left.exists());

    let cluster = Cluster::throw_away().unwrap();

    assert!(!left.exists());
    assert!(!is_alive(server));
    assert_eq!(query(&cluster, "SELECT 1"), "1");
}

#[test]
fn a_server_without_its_launcher_is_stopped_and_replaced() {
    let (_guard, base) = folder();
    let options = quick(&base);
    let cluster = start(&options);
    query(&cluster, "CREATE TABLE kept ()");
    let program = cluster.binaries().program("postgres");
    cluster.stop().unwrap();
    let mut orphan = as_owner_of(&base, &program);
    orphan
        .arg("-D")
        .arg(base.join("data"))
        .args(["-c", "listen_addresses=", "-c"])
        .arg(format!(
            "unix_socket_directories={}",
            base.join("data").display()
        ));
    let mut orphan = orphan.process_group(0).spawn().unwrap();
    wait_until("the orphan serves", || {
        base.join("data/.s.PGSQL.5432").exists()
    });

    let (cluster, steps) = start_told(&options);

    let pid = orphan.id();
    assert!(steps.contains(&Step::StoppingOrphan { pid }), "{steps:?}");
    assert!(orphan.wait().is_ok());
    assert_eq!(query(&cluster, "SELECT count(*) FROM kept"), "0");
}

#[test]
fn a_process_file_with_a_number_that_is_somebody_elses_now_is_removed() {
    let (_guard, base) = folder();
    let options = quick(&base);
    start(&options).stop().unwrap();
    let mut bystander = Bystander(
        as_owner_of(&base, Path::new("sleep"))
            .arg("600")
            .spawn()
            .unwrap(),
    );
    let file = base.join("data/postmaster.pid");
    let text = format!(
        "{}\n{}\n1700000000\n5432\n/tmp\n\n  1 1\nready   \n",
        bystander.0.id(),
        base.display()
    );
    fs::write(&file, text).unwrap();
    let owner = fs::metadata(base.join("data")).unwrap();
    chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();

    let (cluster, steps) = start_told(&options);

    assert!(
        steps
            .iter()
            .any(|step| matches!(step, Step::RemovedStaleProcessFile { .. })),
        "{steps:?}"
    );
    assert_eq!(query(&cluster, "SELECT 1"), "1");
    assert!(
        bystander.0.try_wait().unwrap().is_none(),
        "the other process is not harmed"
    );
}

#[test]
fn a_half_made_cluster_is_not_taken_for_a_whole_one() {
    let (_guard, base) = folder();
    let half = base.join("data.new.4242");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("PG_VERSION"), "15\n").unwrap();

    let cluster = start(&quick(&base));

    assert_eq!(query(&cluster, "SELECT 1"), "1");
    assert!(!half.exists());
}

#[test]
fn a_directory_with_something_else_in_it_is_left_alone() {
    let (_guard, base) = folder();
    fs::create_dir(base.join("data")).unwrap();
    fs::write(base.join("data/thesis.txt"), "precious").unwrap();

    let error = Cluster::start(&quick(&base), &mut |_| {}).unwrap_err();

    assert!(matches!(error, Error::NotACluster { .. }), "{error}");
    assert_eq!(
        fs::read_to_string(base.join("data/thesis.txt")).unwrap(),
        "precious"
    );
}
