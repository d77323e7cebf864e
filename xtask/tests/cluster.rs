//! Private servers as tests and `make run` use them.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;
use std::process::{Command, Stdio};

use xtask::cluster::{Cluster, ClusterError, Options, Stop, Storage, Tree};
use xtask::postgres::Version;

fn start(options: &Options) -> Cluster {
    let tree = Tree::bare(Version::V15).unwrap();
    Cluster::start(&tree, options).unwrap()
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_server_keeps_port_and_data_over_every_kind_of_end() {
    let mut cluster = start(&Options::default());
    let port = cluster.port();
    cluster.sql("postgres", "create table seen (how text)").unwrap();
    cluster.restart(Stop::Fast).unwrap();
    cluster.sql("postgres", "insert into seen values ('fast')").unwrap();
    cluster.restart(Stop::Immediate).unwrap();
    cluster.sql("postgres", "insert into seen values ('immediate')").unwrap();
    cluster.kill().unwrap();
    assert!(!cluster.is_running());
    cluster.start_again().unwrap();
    assert_eq!(cluster.port(), port);
    assert_eq!(cluster.sql("postgres", "select how from seen").unwrap(), "fast\nimmediate");
}

#[test]
fn a_temporary_server_leaves_nothing_behind() {
    let cluster = start(&Options::default());
    let (data, pid) = (cluster.data_folder().to_owned(), cluster.pid().unwrap());
    drop(cluster);
    assert!(!is_alive(pid));
    assert!(!data.parent().unwrap().exists());
}

#[test]
fn kept_data_is_there_again() {
    let name = format!("test-kept-{}", std::process::id());
    let options = Options { storage: Storage::Kept(name), ..Options::default() };
    let cluster = start(&options);
    cluster.sql("postgres", "create table kept as select 42 as answer").unwrap();
    let folder = cluster.data_folder().parent().unwrap().to_owned();
    drop(cluster);
    let cluster = start(&options);
    assert_eq!(cluster.sql("postgres", "select answer from kept").unwrap(), "42");
    drop(cluster);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_server_runs_with_the_settings_it_was_given() {
    let cluster = start(&Options::default().set("max_worker_processes", "9").set("work_mem", "5MB"));
    let shown = |name: &str| cluster.sql("postgres", &format!("show {name}")).unwrap();
    assert_eq!(shown("max_worker_processes"), "9");
    assert_eq!(shown("work_mem"), "5MB");
    assert_eq!(shown("max_prepared_transactions"), "64");
    assert_eq!(shown("fsync"), "off");
}

#[test]
fn a_bad_setting_shows_the_log() {
    let tree = Tree::bare(Version::V15).unwrap();
    let error = Cluster::start(&tree, &Options::default().set("work_mem", "plenty")).unwrap_err();
    let ClusterError::NotStarted { tail, .. } = error else { panic!("{error}") };
    assert!(tail.contains("work_mem"), "{tail}");
}

#[test]
fn a_password_is_asked_over_tcp_and_not_on_the_private_socket() {
    let cluster = start(&Options { password: Some("it's".to_owned()), ..Options::default() });
    let connect = |password: &str| {
        let mut psql = cluster.tree().program("psql");
        psql.args(["-X", "-w", "-c", "select 1", &cluster.url("postgres")]).env("PGPASSWORD", password);
        psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(connect("it's"));
    assert!(!connect("its"));
    assert_eq!(cluster.sql("postgres", "select 1").unwrap(), "1");
}

#[test]
fn sql_errors_carry_what_the_server_said() {
    let cluster = start(&Options::default());
    let error = cluster.sql("postgres", "select 1; select 1/0").unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
}

/// The other half of [`a_server_ends_with_a_killed_owner`]: runs only inside the process that it starts.
#[test]
fn owner_to_be_killed() {
    if std::env::var_os("XTASK_TEST_OWNER").is_none() {
        return;
    }
    let cluster = start(&Options::default());
    println!("server {} {}", cluster.pid().unwrap(), cluster.data_folder().display());
    std::thread::park();
}

#[test]
fn a_server_ends_with_a_killed_owner() {
    use std::io::{BufRead, BufReader};
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_to_be_killed", "--nocapture"])
        .env("XTASK_TEST_OWNER", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.into_iter().find(|line| line.contains("server ")).unwrap();
    let mut words = line.split("server ").nth(1).unwrap().split(' ');
    let (pid, data) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().to_owned());
    assert!(is_alive(pid));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while is_alive(pid) || Path::new(&data).exists() {
        assert!(std::time::Instant::now() < deadline, "server {pid} in {data} outlived its owner");
        std::thread::yield_now();
    }
}
