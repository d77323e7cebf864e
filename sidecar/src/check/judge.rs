//! Facts to findings. Pure.

use super::{
    Finding, Report,
    facts::{FUNCTIONS, Facts},
};
use crate::{
    config::Config,
    postgres::{
        RoleFault,
        log::{CONTRACT_VERSION, CONTRACT_VERSIONS},
    },
};

/// The oldest server.
const SERVER_VERSION_MIN: i32 = 140_000;

/// The newest minor release of each major one at the time of writing that closes known holes.
const MINOR_WANTED: [(i32, i32); 5] = [(14, 23), (15, 18), (16, 14), (17, 10), (18, 4)];

/// Clocks further apart than this are worth a word.
const CLOCK_AHEAD_S_MAX: f64 = 2.0;

/// Judges everything; no fault hides another.
pub(super) fn judge(facts: &Facts, config: &Config, report: &mut Report) {
    let before = report.findings.len();
    server(facts, report);
    login_role(facts, report);
    if extension(facts, report) {
        contract(facts, report);
        functions(facts, report);
    }
    roles(facts, report);
    clock(facts, config, report);
    if report.findings.len() == before {
        report.good(format!("role {} has the rights it needs and no others", facts.user));
    }
}

fn server(facts: &Facts, report: &mut Report) {
    let (major, minor) = (facts.server_version_number / 10_000, facts.server_version_number % 10_000);
    if facts.server_version_number < SERVER_VERSION_MIN {
        let what = format!("PostgreSQL {} is too old", facts.server_version);
        report.findings.push(Finding::fault(what, "upgrade to 14 or newer"));
    }
    if let Some((_, wanted)) = MINOR_WANTED.iter().find(|(known, wanted)| *known == major && minor < *wanted) {
        let what = format!("PostgreSQL {} lacks fixes", facts.server_version);
        report.findings.push(Finding::warning(what, format!("update to {major}.{wanted} or newer")));
    }
    if facts.is_standby {
        let remedy = "point database.url at the primary, or name all hosts with target_session_attrs=read-write";
        report.findings.push(Finding::fault("the server is a standby and cannot be written", remedy));
    }
}

fn login_role(facts: &Facts, report: &mut Report) {
    let user = &facts.user;
    if let Some(fault) = RoleFault::of(facts.is_superuser, facts.bypasses_rls, facts.inherits) {
        let what = format!("role {user} may do too much: it has {}", fault.names());
        let quoted = quote_ident(user);
        report.findings.push(Finding::fault(what, format!("run: alter role {quoted} {}", fault.remedy())));
    }
    if !facts.is_superuser {
        for superuser in &facts.superusers_within_reach {
            let what = format!("role {user} can become the superuser {superuser}");
            let remedy = format!("run: revoke {} from {}", quote_ident(superuser), quote_ident(user));
            report.findings.push(Finding::fault(what, remedy));
        }
    }
}

/// Whether the rest of the extension can be judged.
fn extension(facts: &Facts, report: &mut Report) -> bool {
    let extension = &facts.extension;
    match &extension.version {
        Some(version) => {
            report.good(format!("extension realtime {version}"));
            true
        }
        None if extension.schema_exists => {
            let what = "there is a schema realtime that is not the extension's (InsForge and Supabase have one)";
            report.findings.push(Finding::fault(what, "drop or rename it, then run: create extension realtime"));
            false
        }
        None if extension.is_available => {
            let what = "the extension realtime is not in this database";
            report.findings.push(Finding::fault(what, "run as superuser: create extension realtime"));
            false
        }
        None => {
            let what = "the extension realtime is not installed on this server";
            report.findings.push(Finding::fault(what, "run make install there, then: create extension realtime"));
            false
        }
    }
}

fn contract(facts: &Facts, report: &mut Report) {
    let Some(version) = facts.contract_version else {
        return;
    };
    if version > CONTRACT_VERSION {
        let what = format!("the extension speaks contract {version}, this sidecar {CONTRACT_VERSION}");
        report.findings.push(Finding::fault(what, "install a newer sidecar"));
    } else if version < *CONTRACT_VERSIONS.start() {
        let what = format!("the extension speaks contract {version}, this sidecar {CONTRACT_VERSION}");
        report.findings.push(Finding::fault(what, "run: alter extension realtime update"));
    }
}

fn functions(facts: &Facts, report: &mut Report) {
    let missing: Vec<&str> =
        FUNCTIONS.into_iter().filter(|name| facts.functions.iter().all(|known| known.name != *name)).collect();
    if !missing.is_empty() {
        let what = format!("the extension lacks {}", missing.join(", "));
        report.findings.push(Finding::fault(what, "run: alter extension realtime update"));
    }
    let denied: Vec<&str> =
        facts.functions.iter().filter(|known| !known.allowed).map(|known| known.name.as_str()).collect();
    if !denied.is_empty() || !facts.extension.schema_usable {
        let what = format!("role {} may not call the extension ({})", facts.user, denied.join(", "));
        report.findings.push(Finding::fault(what, grant_sidecar(&facts.user)));
    }
}

fn roles(facts: &Facts, report: &mut Report) {
    for role in &facts.roles {
        let (name, user) = (&role.name, &facts.user);
        if !role.exists {
            let remedy =
                "run: select realtime.create_roles(), or take it out of auth.roles, default_role and anonymous_role";
            report.findings.push(Finding::fault(format!("role {name} does not exist"), remedy));
        } else if !role.can_be_assumed {
            // A membership that exists keeps its options unless they are named.
            let options = if facts.server_version_number >= 160_000 { " with inherit false, set true" } else { "" };
            let remedy = format!("run: grant {} to {}{options}", quote_ident(name), quote_ident(user));
            report.findings.push(Finding::fault(format!("role {user} cannot become {name}"), remedy));
        } else if role.is_inherited && !facts.is_superuser && !facts.inherits {
            // Since 16 each membership says for itself whether it is inherited.
            let remedy = format!("run: grant {} to {} with inherit false", quote_ident(name), quote_ident(user));
            report.findings.push(Finding::fault(format!("role {user} inherits the rights of {name}"), remedy));
        }
    }
}

fn clock(facts: &Facts, config: &Config, report: &mut Report) {
    let ahead = facts.clock_ahead_s;
    if ahead.abs() > CLOCK_AHEAD_S_MAX.max(config.auth.leeway.as_secs_f64() / 2.0) {
        let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
        let what = format!("the database's clock is {:.1} s {direction} this machine's", ahead.abs());
        report.findings.push(Finding::warning(what, "keep both in step (NTP): tokens expire by this machine's clock"));
    }
}

fn grant_sidecar(user: &str) -> String {
    format!("run as owner of the extension: select realtime.grant_sidecar('{}')", user.replace('\'', "''"))
}

/// A name as a person has to type it into SQL.
fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Severity,
            facts::{Callable, Extension, RoleFact},
        },
        *,
    };
    use crate::config::Sources;

    fn config() -> Config {
        let flags = vec![("database.url".to_owned(), "postgres://u@h/d".to_owned())];
        Config::load(&Sources { flags, ..Sources::default() }).unwrap()
    }

    fn good() -> Facts {
        let role =
            |name: &str| RoleFact { name: name.to_owned(), exists: true, can_be_assumed: true, is_inherited: false };
        Facts {
            server_version_number: 150_020,
            server_version: "15.20".to_owned(),
            is_standby: false,
            clock_ahead_s: 0.1,
            place: "here".to_owned(),
            user: "side car".to_owned(),
            is_superuser: false,
            bypasses_rls: false,
            inherits: false,
            superusers_within_reach: Vec::new(),
            extension: Extension {
                version: Some("0.1.0".to_owned()),
                is_available: true,
                schema_exists: true,
                schema_usable: true,
            },
            functions: FUNCTIONS.iter().map(|name| Callable { name: (*name).to_owned(), allowed: true }).collect(),
            roles: ["anon", "authenticated", "service_role"].into_iter().map(role).collect(),
            contract_version: Some(1),
        }
    }

    fn findings(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
        let mut facts = good();
        change(&mut facts);
        let mut report = Report::default();
        judge(&facts, &config(), &mut report);
        report.findings
    }

    #[test]
    fn a_good_database_has_no_findings() {
        assert_eq!(findings(|_| ()), []);
    }

    #[test]
    fn each_fault_is_found_with_its_remedy() {
        type Case = (fn(&mut Facts), &'static str);
        let cases: [Case; 13] = [
            (|f| f.server_version_number = 130_010, "upgrade to 14"),
            (|f| f.is_standby = true, "target_session_attrs=read-write"),
            (|f| f.is_superuser = true, "alter role \"side car\" nosuperuser"),
            (|f| f.bypasses_rls = true, "nobypassrls"),
            (|f| f.inherits = true, "noinherit"),
            (|f| f.superusers_within_reach = vec!["postgres".to_owned()], "revoke postgres from \"side car\""),
            (|f| f.extension.version = None, "drop or rename it"),
            (|f| f.contract_version = Some(2), "newer sidecar"),
            (|f| f.contract_version = Some(0), "alter extension realtime update"),
            (|f| f.functions[1].allowed = false, "grant_sidecar('side car')"),
            (|f| f.roles[0].exists = false, "create_roles()"),
            (|f| f.roles[0].can_be_assumed = false, "grant anon to \"side car\""),
            (|f| f.roles[0].is_inherited = true, "with inherit false"),
        ];
        for (change, remedy) in cases {
            let found = findings(change);
            assert!(
                found.iter().any(|f| f.severity == Severity::Fault && f.remedy.contains(remedy)),
                "{remedy}: {found:?}"
            );
        }
    }

    #[test]
    fn faults_do_not_hide_each_other() {
        let found = findings(|f| {
            f.is_superuser = true;
            f.is_standby = true;
            f.functions.clear();
            f.roles[1].exists = false;
        });
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn old_minors_and_wrong_clocks_are_only_warned_about() {
        let found = findings(|f| {
            f.server_version_number = 160_003;
            f.clock_ahead_s = -9.0;
        });
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|f| f.severity == Severity::Warning), "{found:?}");
    }
}
