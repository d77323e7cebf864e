//! Anything at all as packets of Engine.IO and Socket.IO: nothing panics, nothing hangs, and what is understood is what a
//! client may ask.
//!
//! `FUZZ_INPUTS` says how many inputs there are, `FUZZ_SEED` brings a run back.

#![allow(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use realtime_sidecar::protocol::{Command, DialectId, engine};

/// Enough to find what is easily found; many more were tried by hand.
const INPUTS: u64 = 20_000;
/// What an input may be made of beside pieces of good ones.
const PIECES: [&str; 28] = [
    "4",
    "0",
    "1",
    "2",
    "3",
    "5",
    "6",
    "-",
    ",",
    "/",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    ":",
    "null",
    "true",
    "1e999",
    "\u{1e}",
    "\u{0}",
    "ä",
    "🎉",
    "\\ud800",
    "\"connect\"",
    "99999999999999999999",
    "b",
];
/// Slower than this is as good as hanging, on any machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// A generator whose seed brings its numbers back (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % end.max(1)
    }

    fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Every packet of a client in the transcripts.
fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/insforge");
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let packets: Vec<String> = files
        .flat_map(|text| text.lines().filter_map(|line| line.strip_prefix("> ")).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(packets.len() > 50, "the transcripts were not read");
    packets
}

/// A place between two characters.
fn place(text: &str, random: &mut Random) -> usize {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn range(text: &str, random: &mut Random) -> std::ops::Range<usize> {
    let (one, two) = (place(text, random), place(text, random));
    one.min(two)..one.max(two)
}

fn mutate(text: &mut String, corpus: &[String], random: &mut Random) {
    match random.below(7) {
        0 => text.insert_str(place(text, random), PIECES[random.below(PIECES.len())]),
        1 => text.replace_range(range(text, random), ""),
        2 => text.replace_range(range(text, random), PIECES[random.below(PIECES.len())]),
        3 => {
            let again = text[range(text, random)].to_owned();
            text.insert_str(place(text, random), &again);
        }
        4 => {
            let other = random.one_of(corpus);
            let part = other[range(other, random)].to_owned();
            text.insert_str(place(text, random), &part);
        }
        5 => {
            let depth = random.below(300);
            let (open, close) = if random.below(2) == 0 { ("[", "]") } else { ("{\"a\":", "}") };
            let nested = [open.repeat(depth), "1".to_owned(), close.repeat(depth)].concat();
            text.insert_str(place(text, random), &nested);
        }
        _ => text.truncate(place(text, random)),
    }
    if text.len() > 8192 {
        text.truncate(place(text, random));
    }
}

/// What was understood must be something that can be acted upon and answered.
fn judge(input: &str) {
    for packet in engine::packets(input) {
        let kind = engine::Packet::parse(packet);
        assert_eq!(kind.is_none(), !packet.starts_with(['0', '1', '2', '3', '4', '5', '6', 'b']));
        let mut stranger = DialectId::INSFORGE.dialect().codec();
        match stranger.decode(packet) {
            Ok(Command::Connect { .. }) => assert!(packet.starts_with("40")),
            Ok(Command::Reply { frame }) => assert!(frame.starts_with("44/"), "{frame}"),
            Ok(command) => panic!("nobody was told who it is: {command:?}"),
            Err(error) => assert!(error.ends, "{packet}: whoever says nonsense first has to go"),
        }
    }
}

/// A codec whose client has come in.
fn inside() -> Box<dyn realtime_sidecar::protocol::Codec> {
    use realtime_sidecar::{
        model::{Credential, Identity},
        protocol::{ClientLimits, Hello, Notice},
    };
    let identity = Identity {
        role: "anon".into(),
        claims: "{}".into(),
        user: None,
        expires_at: None,
        credential: Credential::Nothing,
    };
    let limits = ClientLimits { frame_bytes: 1, subscriptions: 1, messages_per_second: 1, messages_burst: 1 };
    let mut codec = DialectId::INSFORGE.dialect().codec();
    let hello = Hello { offset: None, connection: "c", identity: &identity, heartbeat_ms: 1, limits };
    assert_eq!(codec.encode(&Notice::Hello(hello)).as_deref(), Some(r#"40{"sid":"c"}"#));
    codec
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn no_input_panics_or_hangs() {
    let (inputs, seed) = (number("FUZZ_INPUTS", INPUTS), number("FUZZ_SEED", 0x5eed).max(1));
    let (corpus, mut random, mut codec) = (corpus(), Random(seed), inside());
    let (mut understood, started) = (0_u64, Instant::now());
    for count in 0..inputs {
        let mut input = random.one_of(&corpus).clone();
        for _ in 0..random.below(5) {
            mutate(&mut input, &corpus, &mut random);
        }
        let begun = Instant::now();
        judge(&input);
        let decoded = if random.below(50) == 0 { codec.decode_binary() } else { codec.decode(&input) };
        match decoded {
            Ok(Command::Connect { .. }) => panic!("a client comes in once: {input}"),
            Ok(_) => understood += 1,
            Err(error) if error.ends => codec = inside(),
            Err(_) => (),
        }
        assert!(begun.elapsed() < PATIENCE, "seed {seed}, input {count} took {:?}: {input}", begun.elapsed());
    }
    println!("{inputs} inputs in {:?} from seed {seed}, {understood} understood", started.elapsed());
    assert!(understood > inputs / 100, "the generator makes nothing but nonsense");
}
