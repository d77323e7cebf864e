//! Random identities: a role and claims, the malformed ones too.

use realtime_tests::random::Random;

use crate::world::Role;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// As whom policies run.
    pub(crate) role: Role,
    /// `request.jwt.claims`.
    pub(crate) claims: String,
}

const SUBJECTS: [&str; 9] = [
    "\"a0a0a0a0-0000-4000-8000-0000000000ad\"",
    "\"b0b0b0b0-0000-4000-8000-0000000000be\"",
    "\"A0A0A0A0-0000-4000-8000-0000000000AD\"",
    "\"ada\"",
    "\"ada\"",
    "\"Ada\"",
    "\"\"",
    "null",
    "17",
];
const ORGS: [&str; 12] = ["1", "2", "3", "1", "2", "\"1\"", "\"2\"", "1.0", "\"x\"", "null", "99999999999", "[1]"];
const MAILS: [&str; 5] = ["\"ada@x\"", "\"ADA@x\"", "\"bob@x\"", "null", "\"it's \\\"x\\\"\""];
const TEAMS: [&str; 9] = ["[1, 2]", "[3]", "[]", "null", "[null, 1]", "[\"1\"]", "[\"x\"]", "1", "{\"a\": 1}"];
const ROLES: [&str; 5] = ["\"admin\"", "\"editor\"", "\"fx_plain\"", "null", "\"authenticated\""];
const FLAGS: [&str; 5] = ["true", "false", "\"true\"", "\"maybe\"", "null"];
const LISTS: [&str; 4] = ["\"1,2\"", "\"\"", "\"3\"", "\"a,b\""];

const MALFORMED: [&str; 11] = [
    "",
    "not json",
    "{}",
    "[]",
    "null",
    "\"ada\"",
    "17",
    "{\"sub\":",
    "{\"sub\": \"ada\", \"sub\": \"bob\"}",
    "{\"sub\": {\"a\": 1}, \"org\": {}}",
    "{\"sub\": \"\\u0000\"}",
];

impl Identity {
    /// A random one.
    pub(crate) fn random(random: &mut Random) -> Self {
        const FREQUENT: [Role; 5] = [Role::Plain, Role::Plain, Role::Plain, Role::Member, Role::Team];
        let role = if random.chance(70) { random.pick(&FREQUENT) } else { random.pick(&Role::ALL) };
        let claims = if random.chance(10) { random.pick(&MALFORMED).to_owned() } else { claims(random) };
        Self { role, claims }
    }
}

fn claims(random: &mut Random) -> String {
    let mut members = Vec::new();
    let mut member = |name: &str, values: &[&str], percent: u64, random: &mut Random| {
        if random.chance(percent) {
            members.push(format!("\"{name}\": {}", random.pick(values)));
        }
    };
    member("sub", &SUBJECTS, 90, random);
    member("org", &ORGS, 85, random);
    member("email", &MAILS, 60, random);
    member("teams", &TEAMS, 60, random);
    member("role", &ROLES, 60, random);
    member("active", &FLAGS, 60, random);
    member("list", &LISTS, 40, random);
    if random.chance(50) {
        members.push(format!("\"app\": {{\"org\": {}, \"tags\": {}}}", random.pick(&ORGS), random.pick(&TEAMS)));
    }
    if random.chance(10) {
        members.push(format!("\"long\": \"{}\"", "ä🦀".repeat(9)));
    }
    format!("{{{}}}", members.join(", "))
}
